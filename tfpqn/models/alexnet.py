"""AlexNet, which takes the weights that torchvision publishes: Keras publishes none."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from tfpqn.models.torch_weights import layer_name

# Height and width of the images that it was trained on.
IMAGE_SIZE = 224
# Of ImageNet's colours, from 0 to 1.
MEAN = np.array([0.485, 0.456, 0.406])
STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225])
# Filters, kernel size, stride, padding in pixels, whether a pooling follows; torchvision's name.
CONVOLUTIONS = (
    (64, 11, 4, 2, True, "features.0"),
    (192, 5, 1, 2, True, "features.3"),
    (384, 3, 1, 1, False, "features.6"),
    (256, 3, 1, 1, False, "features.8"),
    (256, 3, 1, 1, True, "features.10"),
)
DENSE = ((4096, "classifier.1"), (4096, "classifier.4"))


def alexnet(x: Any) -> Any:
    """The net of Krizhevsky, "One weird trick for parallelizing CNNs", 2014, up to its last layer
    but one.

    Layer for layer torchvision's, so that its weights fit. Images of another size than 224 x 224
    are brought to it, as those who search CIFAR-10 with it do.

    Args:
        x: Pixels scaled to -1 .. 1, `[batch, height, width, 3]`.
    """
    if tuple(x.shape[1:3]) != (IMAGE_SIZE, IMAGE_SIZE):
        x = layers.Resizing(IMAGE_SIZE, IMAGE_SIZE)(x)
    x = layers.Rescaling(
        (0.5 / STANDARD_DEVIATION).tolist(), ((0.5 - MEAN) / STANDARD_DEVIATION).tolist()
    )(x)
    for filters, size, stride, padding, is_pooled, name in CONVOLUTIONS:
        x = layers.ZeroPadding2D(padding)(x)
        x = layers.Conv2D(filters, size, stride, activation="relu", name=layer_name(name))(x)
        if is_pooled:
            x = layers.MaxPooling2D(3, 2)(x)
    # Channel by channel, as torch flattens.
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))
    for units, name in DENSE:
        x = layers.Dropout(0.5)(x)
        x = layers.Dense(units, activation="relu", name=layer_name(name))(x)
    return x
