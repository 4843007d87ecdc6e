"""Tiny images, clips and networks, of which a training step takes milliseconds."""

import keras
import numpy as np

from tfpqn.datasets import ClipArrays, ImageArrays, Splits, TrainingBatches
from tfpqn.layers import ProductQuantization, TemporalProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork

IMAGE_SHAPE = (8, 8, 1)
LABEL_NAMES = ("ant", "bee", "cat", "dog")
BATCH_SIZE = 16
STEPS_PER_EPOCH = 4
NUM_FRAMES = 4

# A plain graph is compiled faster than XLA's; JAX has no other compiler.
COMPILE_OPTIONS = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}


def make_images(num_images=BATCH_SIZE * STEPS_PER_EPOCH, seed=0):
    """Noisy copies of one random picture for each of four labels, the labels in turn."""
    pictures = np.random.default_rng(4).integers(0, 256, (len(LABEL_NAMES), *IMAGE_SHAPE))
    labels = np.arange(num_images) % len(LABEL_NAMES)
    noise = np.random.default_rng(seed).normal(0, 60, (num_images, *IMAGE_SHAPE))
    images = np.clip(pictures[labels] + noise, 0, 255).astype(np.uint8)
    return ImageArrays(images, labels, label_names=LABEL_NAMES)


def make_splits(num_items=BATCH_SIZE * STEPS_PER_EPOCH, num_queries=12):
    database = make_images(num_items, seed=1)
    return Splits(train=database, database=database, query=make_images(num_queries, seed=2))


def make_multi_hot_splits(num_items, num_queries):
    """As `make_splits`, with several labels an item or none."""
    rng = np.random.default_rng(0)
    database, query = (
        ImageArrays(make_images(number, seed).images, (rng.random((number, 4)) < 0.5).astype(int))
        for number, seed in ((num_items, 1), (num_queries, 2))
    )
    return Splits(train=database, database=database, query=query)


def make_clips(num_clips=32, seed=0):
    """Noisy clips of 3 to 6 frames, a picture that turns into another: labels 2 and 3 are 0 and 1
    played backwards.
    """
    pictures = np.random.default_rng(4).integers(0, 256, (2, 2, *IMAGE_SHAPE))
    rng = np.random.default_rng(seed)
    labels = np.arange(num_clips) % len(LABEL_NAMES)
    clips = []
    for label in labels:
        first, last = pictures[label % 2][:: -1 if label >= 2 else 1]
        times = np.linspace(0, 1, rng.integers(3, 7))[:, None, None, None]
        frames = first + times * (last - first)
        clips.append(np.clip(frames + rng.normal(0, 40, frames.shape), 0, 255).astype(np.uint8))
    frames, offsets = np.concatenate(clips), np.cumsum([0, *map(len, clips)])
    return ClipArrays(frames, offsets, labels, label_names=LABEL_NAMES, num_frames=NUM_FRAMES)


def make_clip_splits(num_items=32, num_queries=8):
    database = make_clips(num_items, seed=1)
    return Splits(train=database, database=database, query=make_clips(num_queries, seed=2))


def make_batches(augment=False):
    return TrainingBatches(make_images(), BATCH_SIZE, seed=5, augment=augment)


def make_schedule(steps=24):
    return keras.optimizers.schedules.CosineDecay(1e-2, steps)


def read_items(items):
    """All items as a network takes them, `[num_items, *item_shape]`."""
    return np.concatenate([batch.images for batch in items.batches(32)])


def make_backbone(dropout=0.0):
    """A dense layer and statistics of batches."""
    layers = [
        keras.Input(IMAGE_SHAPE),
        keras.layers.Rescaling(1 / 128, -1.0),
        keras.layers.Flatten(),
        keras.layers.Dense(32, "relu"),
        keras.layers.BatchNormalization(),
    ]
    return keras.Sequential([*layers, *([keras.layers.Dropout(dropout)] if dropout else [])])


def map_backbone():
    """Layers over images that end in feature maps."""
    maps = keras.layers.Conv2D(4, 3, activation="relu")
    return keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Rescaling(1 / 255), maps])


def clip_backbone(num_frames=NUM_FRAMES, *layers):
    """Layers over whole clips, which keep the time axis."""
    inputs = keras.Input((num_frames, *IMAGE_SHAPE))
    maps = keras.layers.Conv3D(4, (1, 3, 3), activation="relu")
    return keras.Sequential([inputs, keras.layers.Rescaling(1 / 255), maps, *layers])


def build_network(backbone=None, quantizer=None, **options):
    """A network that is not compiled, of any parts."""
    backbone, quantizer = backbone or map_backbone(), quantizer or ProductQuantization(2, 8)
    return ProductQuantizationNetwork(backbone, quantizer, **{"embedding_dim": 8, **options})


def build_clip_network(backbone=None, quantizer=None, **options):
    quantizer = quantizer or TemporalProductQuantization(2, 2, 8)
    return build_network(backbone, quantizer, **{"embedding_dim": 4, **options})


def build_motion_network():
    """A network that is given images of two stretches of a clip."""
    inputs = keras.Input((*IMAGE_SHAPE[:2], 4 * IMAGE_SHAPE[2]))
    maps = keras.layers.Conv2D(4, 3, activation="relu")
    backbone = keras.Sequential([inputs, keras.layers.Rescaling(1 / 255), maps])
    return build_clip_network(backbone, TemporalProductQuantization((1, 2), 1, 8), motion=2)


def compiled_network(*args, loss=None, make=build_network, **options):
    network = make(*args, **options)
    loss = loss or AsymmetricTripletLoss("softplus", scale=4.0)
    network.compile(keras.optimizers.Adam(0.01), loss, **COMPILE_OPTIONS)
    return network


def make_network_with(quantizer, embedding_dim=16):
    """A network on images, or with a temporal quantizer on clips, that is not compiled."""
    keras.utils.set_random_seed(7)
    return build_network(make_backbone(), quantizer, embedding_dim=embedding_dim)


def make_network(
    *, num_subspaces=4, num_codewords=16, embedding_dim=16, dropout=0.0, optimizer=None
):
    """A compiled network, with the same weights at every call."""
    keras.utils.set_random_seed(7)
    backbone, quantizer = make_backbone(dropout), ProductQuantization(num_subspaces, num_codewords)
    network = build_network(backbone, quantizer, embedding_dim=embedding_dim)
    optimizer = optimizer or keras.optimizers.Adam(make_schedule())
    network.compile(optimizer, AsymmetricTripletLoss("softplus", scale=4.0))
    return network


def fill_weights_with_nan(network):
    for variable in network.trainable_variables:
        if "codebooks" not in variable.path:
            variable.assign(np.full(variable.shape, np.nan))
    return network


def arrays_of(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_bit_equal(first, second):
    """Two lists of variables or arrays have equal values, NaN nowhere."""
    for one, other in zip(arrays_of(first), arrays_of(second), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def assert_same_outputs(first, second):
    """Two outputs of networks have the same names and bits."""
    assert first.keys() == second.keys()
    for name in first:
        mine, other = (keras.ops.convert_to_numpy(outputs[name]) for outputs in (first, second))
        np.testing.assert_array_equal(mine, other, name)
