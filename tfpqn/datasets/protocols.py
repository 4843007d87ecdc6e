"""Retrieval protocols by name: which items train, which are searched, which search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfpqn.datasets.clips.frame_sampling import check_num_frames
from tfpqn.datasets.clips.moving_digits import make_moving_digits
from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.arrays import ImageArrays
from tfpqn.datasets.prepared_images import CIFAR10, FASHION_MNIST, PreparedImages
from tfpqn.datasets.splits import SPLIT_SEED, Splits, draw_per_label

Loader = Callable[..., Splits]


@dataclass(frozen=True)
class Protocol:
    """A named way to split a data set.

    Attributes:
        name: Name on the command line.
        description: One sentence on the split.
        image_shape: `(height, width, channels)`, of a clip that of each frame.
        loader: From the data directory (or None) to the splits; of clips, from the data directory
            and the number of frames.
        num_frames: Frames sampled from each clip unless told; None if the items are images.
    """

    name: str
    description: str
    image_shape: ImageShape
    loader: Loader
    num_frames: int | None = None

    def load(self, data_dir: str | Path | None = None, num_frames: int | None = None) -> Splits:
        """Read the data.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets, or of the file that the
                protocol names; None for tensorflow-datasets' own default.
            num_frames: Frames to sample from each clip; None for the protocol's own number.

        Raises:
            FileNotFoundError: The data is not there; the message says how to get it.
            ValueError: `num_frames` is given for images, or is below one.
        """
        folder = Path(data_dir) if data_dir is not None else None
        if self.num_frames is None:
            if num_frames is not None:
                raise ValueError(
                    f"num_frames must be left out: the items of {self.name} are images. "
                    f"Received: {num_frames}"
                )
            return self.loader(folder)
        num_frames = self.num_frames if num_frames is None else num_frames
        check_num_frames(num_frames)
        return self.loader(folder, num_frames)


_PROTOCOLS: dict[str, Protocol] = {}


def protocol_names() -> list[str]:
    """Names that `load_protocol` knows."""
    return list(_PROTOCOLS)


def load_protocol(name: str) -> Protocol:
    """Look up a protocol.

    Raises:
        ValueError: The name is unknown; the message lists the known.
    """
    if name not in _PROTOCOLS:
        raise ValueError(
            f"Unknown protocol. Expected one of {protocol_names()}. Received: {name!r}"
        )
    return _PROTOCOLS[name]


def protocol(
    name: str, image_shape: ImageShape, num_frames: int | None = None
) -> Callable[[Loader], Loader]:
    """Make the loader below it known as a protocol, described by the loader's docstring.

    Args:
        name: Name on the command line.
        image_shape, num_frames: As of `Protocol`.
    """

    def add(loader: Loader) -> Loader:
        description = " ".join((loader.__doc__ or "").split()).rstrip(".")
        _PROTOCOLS[name] = Protocol(name, description, image_shape, loader, num_frames)
        return loader

    return add


# Images


@protocol("digits", (8, 8, 1))
def _load_digits(data_dir: Path | None) -> Splits:
    """scikit-learn's 8x8 handwritten digits: 36 queries per class, the other 1,437 images are
    training set and database."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype(np.uint8)[..., np.newaxis]
    names = [str(digit) for digit in range(10)]
    everything = ImageArrays(images, digits.target, label_names=names, mirrors_alike=False)
    return _draw_queries(everything, 36)


@protocol("cifar10-full", CIFAR10.image_shape)
def _load_cifar10_full(data_dir: Path | None) -> Splits:
    """CIFAR-10: trained on the 50,000 training images; the 10,000 test images split into 100
    queries per class and a database of 9,000."""
    return _split_test(CIFAR10, data_dir)


@protocol("cifar10-test", CIFAR10.image_shape)
def _load_cifar10_test(data_dir: Path | None) -> Splits:
    """CIFAR-10: trained on the 50,000 training images; the 10,000 test images search each other,
    each finding itself too."""
    train, test = CIFAR10.load(data_dir)
    return Splits(train=train, database=test, query=test)


@protocol("cifar10-train", CIFAR10.image_shape)
def _load_cifar10_train(data_dir: Path | None) -> Splits:
    """CIFAR-10: the 50,000 training images are training set and database, the 10,000 test images
    search."""
    train, test = CIFAR10.load(data_dir)
    return Splits(train=train, database=train, query=test)


@protocol("cifar10-5k", CIFAR10.image_shape)
def _load_cifar10_5k(data_dir: Path | None) -> Splits:
    """CIFAR-10, all 60,000 images: 100 queries and 500 training images per class at random, the
    other 54,000 are the database."""
    drawn = _draw_queries(_concatenate(*CIFAR10.load(data_dir)), 100)
    train, database = draw_per_label(drawn.database.labels, 500)
    return Splits(drawn.database.subset(train), drawn.database.subset(database), drawn.query)


@protocol("cifar10-10kq", CIFAR10.image_shape)
def _load_cifar10_10kq(data_dir: Path | None) -> Splits:
    """CIFAR-10, all 60,000 images: 1,000 queries per class at random, the other 50,000 are training
    set and database."""
    return _draw_queries(_concatenate(*CIFAR10.load(data_dir)), 1000)


@protocol("fashion-mnist", FASHION_MNIST.image_shape)
def _load_fashion_mnist(data_dir: Path | None) -> Splits:
    """Fashion-MNIST: trained on the 60,000 training images; the 10,000 test images split into 100
    queries per class and a database of 9,000."""
    return _split_test(FASHION_MNIST, data_dir)


def _split_test(prepared: PreparedImages, data_dir: Path | None) -> Splits:
    train, test = prepared.load(data_dir)
    drawn = _draw_queries(test, 100)
    return Splits(train=train, database=drawn.database, query=drawn.query)


def _draw_queries(images: ImageArrays, per_label: int) -> Splits:
    """So many random images of each label search the others, which are the training set, too."""
    query, rest = draw_per_label(images.labels, per_label)
    database = images.subset(rest)
    return Splits(train=database, database=database, query=images.subset(query))


def _concatenate(first: ImageArrays, second: ImageArrays) -> ImageArrays:
    images, labels, ids = (
        np.concatenate([getattr(first, field), getattr(second, field)])
        for field in ("images", "labels", "ids")
    )
    return ImageArrays(images, labels, ids, first.label_names)


# Clips


@protocol("moving-digits", (20, 20, 1), 8)
def _load_moving_digits(data_dir: Path | None, num_frames: int) -> Splits:
    """scikit-learn's digits moving from corner to corner, 12 motions as labels: 1,440 clips are
    training set and database, 360 clips of other digits search."""
    from sklearn.datasets import load_digits

    digits = np.clip(load_digits().images * 16, 0, 255).astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits))
    query, rest = digits[order[:300]], digits[order[300:]]
    database = make_moving_digits(rest, 1440, num_frames, SPLIT_SEED)
    queries = make_moving_digits(query, 360, num_frames, SPLIT_SEED + 1, first_id=1440)
    return Splits(train=database, database=database, query=queries)
