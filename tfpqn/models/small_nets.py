"""Nets of few layers for small images, which learn from random weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfpqn.layers.batch_normalization import BatchNormalization

NORMALIZATIONS = ("batch", "local_response", "none")

# With the Keras default, 0.99, inference lags hundreds of steps behind training.
BATCH_NORM_MOMENTUM = 0.9
# What squares of pixels lose when 0 .. 255 becomes -1 .. 1.
PIXEL_STRENGTH = 5e-5 * 127.5**2


def conv3(x: Any, normalization: str = "batch") -> Any:
    """The 3-conv net of the paper: layer sizes of Liu et al., "Deep Supervised Hashing", CVPR 2016.

    Convolutions, poolings and rectifiers stand in that paper's order; its last fully connected
    layer is the network's embedding. `normalization` is `"local_response"` after the first two
    rectifiers as published, `"batch"` before each rectifier, or `"none"`.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {NORMALIZATIONS}. Received: {normalization!r}"
        )
    use_bias = normalization != "batch"

    def rectify(x: Any) -> Any:
        if normalization == "batch":
            x = BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
        return layers.ReLU()(x)

    def damp(x: Any) -> Any:
        return LocalResponseNormalization()(x) if normalization == "local_response" else x

    x = layers.Conv2D(32, 5, padding="same", use_bias=use_bias)(x)
    x = damp(rectify(layers.MaxPooling2D(3, 2, padding="same")(x)))
    x = layers.Conv2D(32, 5, padding="same", use_bias=use_bias)(x)
    x = damp(rectify(layers.AveragePooling2D(3, 2, padding="same")(x)))
    x = layers.Conv2D(64, 5, padding="same", use_bias=use_bias)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(rectify(x))
    return layers.Flatten()(x)


def resnet9(x: Any, width: int = 32) -> Any:
    """A net of 8 wide convolutions for 32x32 images, after Page, "How to Train Your ResNet", 2018.

    With half of its channels.
    """
    x = _conv_bn(x, width)
    for filters, has_residual in ((2 * width, True), (4 * width, False), (8 * width, True)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
        x = layers.ReLU()(BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x))
        if has_residual:
            x = layers.Add()([x, _conv_bn(_conv_bn(x, filters), filters)])
    return layers.GlobalMaxPooling2D()(x)


def _conv_bn(x: Any, filters: int) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x))


@keras.saving.register_keras_serializable(package="tfpqn")
class LocalResponseNormalization(layers.Layer):
    """Divides each value by a power of the mean square around it, channel by channel.

    `x / (1 + strength * mean of x^2 over 3 x 3 pixels) ^ 0.75`, as the "within channel" mode of
    Caffe has it in its own net for CIFAR-10. That takes pixels as they are, 0 .. 255; with pixels
    of -1 .. 1 its strength of 5e-5 is `PIXEL_STRENGTH`.
    """

    def call(self, features: Any) -> Any:
        exact = ops.cast(features, "float32")
        around = ops.average_pool(ops.square(exact), 3, strides=1, padding="same")
        # Roots take a fifth of the time of a power.
        root = ops.rsqrt(1.0 + PIXEL_STRENGTH * around)
        return ops.cast(exact * (root * ops.sqrt(root)), features.dtype)
