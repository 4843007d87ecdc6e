"""Small networks over images and over clips, as a user would make them."""

import keras
import numpy as np

from tests.core.backend import BACKEND, to_numpy
from tfpqn.layers import ProductQuantization, TemporalProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork

IMAGE_SHAPE = (8, 8, 1)

# A plain graph is compiled faster than XLA's; JAX has no other compiler.
COMPILE_OPTIONS = {"jit_compile": False} if BACKEND == "tensorflow" else {}


def map_backbone():
    """What a user may bring: layers over images that end in feature maps."""
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
        ]
    )


def functional_backbone():
    """A functional model that ends in feature vectors."""
    inputs = keras.Input(IMAGE_SHAPE)
    maps = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(maps))


def clip_backbone(num_frames=4, *layers):
    """Layers over whole clips, which keep the time axis."""
    return keras.Sequential(
        [
            keras.Input((num_frames, *IMAGE_SHAPE)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv3D(4, (1, 3, 3), activation="relu"),
            *layers,
        ]
    )


def make_network(backbone=None, quantizer=None, **options):
    return ProductQuantizationNetwork(
        backbone or map_backbone(),
        quantizer or ProductQuantization(2, 8),
        **{"embedding_dim": 8, **options},
    )


def make_clip_network(backbone=None, quantizer=None, **options):
    quantizer = quantizer or TemporalProductQuantization(2, 2, 8)
    return make_network(backbone, quantizer, **{"embedding_dim": 4, **options})


def compiled_network(*args, loss=None, make=make_network, **options):
    network = make(*args, **options)
    network.compile(
        keras.optimizers.Adam(0.01),
        loss or AsymmetricTripletLoss("softplus", scale=4.0),
        **COMPILE_OPTIONS,
    )
    return network


def make_images(rng, count=24):
    """Four classes: which quarter of the image is bright."""
    labels = np.arange(count) % 4
    images = rng.integers(0, 100, size=(count, *IMAGE_SHAPE))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(label, 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
    return images.astype("uint8"), labels


def make_clips(rng, count=12, num_frames=4):
    """Two classes that differ in the order alone: it grows bright, or it grows dark."""
    labels = np.arange(count) % 2
    clips = rng.integers(0, 100, size=(count, num_frames, *IMAGE_SHAPE))
    half = num_frames // 2
    clips[labels == 0, :half] += 150
    clips[labels == 1, half:] += 150
    return clips.astype("uint8"), labels


def assert_same_outputs(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(to_numpy(first[name]), to_numpy(second[name]), name)
