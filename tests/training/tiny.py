"""Tiny images and networks, of which a training step takes milliseconds."""

from typing import Any

import keras
import numpy as np

import tfpqn
from tfpqn.datasets import ClipArrays, ImageArrays, Splits, TrainingBatches

IMAGE_SHAPE = (8, 8, 1)
LABEL_NAMES = ("ant", "bee", "cat", "dog")
BATCH_SIZE = 16
STEPS_PER_EPOCH = 4
NUM_FRAMES = 4


def make_images(num_images: int = BATCH_SIZE * STEPS_PER_EPOCH, seed: int = 0) -> ImageArrays:
    """Noisy copies of one random picture for each of four labels, the labels in turn."""
    pictures = np.random.default_rng(4).integers(0, 256, (len(LABEL_NAMES), *IMAGE_SHAPE))
    labels = np.arange(num_images) % len(LABEL_NAMES)
    noise = np.random.default_rng(seed).normal(0, 60, (num_images, *IMAGE_SHAPE))
    images = np.clip(pictures[labels] + noise, 0, 255).astype(np.uint8)
    return ImageArrays(images, labels, label_names=LABEL_NAMES)


def make_splits() -> Splits:
    database = make_images(seed=1)
    return Splits(train=database, database=database, query=make_images(12, seed=2))


def make_clips(num_clips: int = 32, seed: int = 0, empty: tuple[int, ...] = ()) -> ClipArrays:
    """Noisy clips of 3 to 6 frames, a picture that turns into another: labels 2 and 3 are 0 and 1
    played backwards. The clips at the positions in `empty` have no frame.
    """
    pictures = np.random.default_rng(4).integers(0, 256, (2, 2, *IMAGE_SHAPE))
    rng = np.random.default_rng(seed)
    labels = np.arange(num_clips) % len(LABEL_NAMES)
    clips = []
    for position, label in enumerate(labels):
        first, last = pictures[label % 2][:: -1 if label >= 2 else 1]
        times = np.linspace(0, 1, rng.integers(3, 7))[:, None, None, None]
        frames = first + times * (last - first)
        noisy = np.clip(frames + rng.normal(0, 40, frames.shape), 0, 255).astype(np.uint8)
        clips.append(noisy[:0] if position in empty else noisy)
    frames, offsets = np.concatenate(clips), np.cumsum([0, *map(len, clips)])
    return ClipArrays(frames, offsets, labels, label_names=LABEL_NAMES, num_frames=NUM_FRAMES)


def make_clip_splits() -> Splits:
    database = make_clips(seed=1)
    return Splits(train=database, database=database, query=make_clips(8, seed=2))


def make_batches(augment: bool = False) -> TrainingBatches:
    return TrainingBatches(make_images(), BATCH_SIZE, seed=5, augment=augment)


def make_schedule(steps: int = 24) -> Any:
    return keras.optimizers.schedules.CosineDecay(1e-2, steps)


def make_backbone(dropout: float = 0.0) -> Any:
    """A dense layer and statistics of batches."""
    layers = [
        keras.Input(IMAGE_SHAPE),
        keras.layers.Rescaling(1 / 128, -1.0),
        keras.layers.Flatten(),
        keras.layers.Dense(32, "relu"),
        keras.layers.BatchNormalization(),
    ]
    return keras.Sequential([*layers, *([keras.layers.Dropout(dropout)] if dropout else [])])


def make_network(
    *,
    num_subspaces: int = 4,
    num_codewords: int = 16,
    embedding_dim: int = 16,
    dropout: float = 0.0,
    optimizer: Any = None,
) -> Any:
    """A compiled network, with the same weights at every call."""
    keras.utils.set_random_seed(7)
    backbone = make_backbone(dropout)
    network = tfpqn.models.ProductQuantizationNetwork(
        backbone, tfpqn.layers.ProductQuantization(num_subspaces, num_codewords), embedding_dim
    )
    network.compile(
        optimizer or keras.optimizers.Adam(make_schedule()),
        tfpqn.losses.AsymmetricTripletLoss("softplus", scale=4.0),
    )
    return network


def make_network_with(quantizer: Any, embedding_dim: int = 16) -> Any:
    """A network on images, or with a temporal quantizer on clips, that is not compiled."""
    keras.utils.set_random_seed(7)
    return tfpqn.models.ProductQuantizationNetwork(make_backbone(), quantizer, embedding_dim)


def make_float_network(optimizer: Any = "adam") -> Any:
    """A network on float images, which may be NaN."""
    keras.utils.set_random_seed(7)
    backbone = keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Flatten()])
    network = tfpqn.models.ProductQuantizationNetwork(
        backbone, tfpqn.layers.ProductQuantization(4, 16), 16
    )
    network.compile(optimizer, tfpqn.losses.AsymmetricTripletLoss())
    return network


def fill_weights_with_nan(network: Any) -> Any:
    for variable in network.trainable_variables:
        if "codebooks" not in variable.path:
            variable.assign(np.full(variable.shape, np.nan))
    return network


def arrays_of(variables: Any) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_bit_equal(first: Any, second: Any) -> None:
    """Two lists of variables or arrays have equal values, NaN nowhere."""
    for one, other in zip(arrays_of(first), arrays_of(second), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
