"""Retrieval protocols by name: which items train, which are searched, which search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfpqn.datasets.clips import protocols as clip_protocols
from tfpqn.datasets.clips.frame_sampling import check_num_frames
from tfpqn.datasets.clips.protocols import VIDEO_SHAPE
from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.arrays import ImageArrays
from tfpqn.datasets.prepared_images import CIFAR10, FASHION_MNIST, PreparedImages
from tfpqn.datasets.splits import Splits, draw_per_label


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
    loader: Callable[..., Splits]
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


def protocol_names() -> list[str]:
    """Names that `load_protocol` knows."""
    return list(PROTOCOLS)


def load_protocol(name: str) -> Protocol:
    """Look up a protocol.

    Raises:
        ValueError: The name is unknown; the message lists the known.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"Unknown protocol. Expected one of {protocol_names()}. Received: {name!r}"
        )
    return PROTOCOLS[name]


def _load_digits(data_dir: Path | None) -> Splits:
    """scikit-learn's handwritten digits: no data directory needed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype(np.uint8)[..., np.newaxis]
    names = [str(digit) for digit in range(10)]
    everything = ImageArrays(images, digits.target, label_names=names, mirrors_alike=False)
    query, rest = draw_per_label(everything.labels, 36)
    database = everything.subset(rest)
    return Splits(train=database, database=database, query=everything.subset(query))


def _load_split_test(images: PreparedImages, data_dir: Path | None) -> Splits:
    """Trained on the training images; 100 test images of each label search the other ones."""
    train, test = images.load(data_dir)
    query, rest = draw_per_label(test.labels, 100)
    return Splits(train=train, database=test.subset(rest), query=test.subset(query))


def _load_cifar10_full(data_dir: Path | None) -> Splits:
    return _load_split_test(CIFAR10, data_dir)


def _load_fashion_mnist(data_dir: Path | None) -> Splits:
    return _load_split_test(FASHION_MNIST, data_dir)


def _load_cifar10_test(data_dir: Path | None) -> Splits:
    train, test = CIFAR10.load(data_dir)
    return Splits(train=train, database=test, query=test)


def _load_cifar10_train(data_dir: Path | None) -> Splits:
    train, test = CIFAR10.load(data_dir)
    return Splits(train=train, database=train, query=test)


def _load_cifar10_5k(data_dir: Path | None) -> Splits:
    everything = _concatenate(*CIFAR10.load(data_dir))
    query, rest = draw_per_label(everything.labels, 100)
    train, database = draw_per_label(everything.labels[rest], 500)
    return Splits(
        train=everything.subset(rest[train]),
        database=everything.subset(rest[database]),
        query=everything.subset(query),
    )


def _load_cifar10_10kq(data_dir: Path | None) -> Splits:
    everything = _concatenate(*CIFAR10.load(data_dir))
    query, rest = draw_per_label(everything.labels, 1000)
    database = everything.subset(rest)
    return Splits(train=database, database=database, query=everything.subset(query))


def _concatenate(first: ImageArrays, second: ImageArrays) -> ImageArrays:
    images, labels, ids = (
        np.concatenate([getattr(first, field), getattr(second, field)])
        for field in ("images", "labels", "ids")
    )
    return ImageArrays(images, labels, ids, first.label_names)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "digits",
            "scikit-learn's 8x8 handwritten digits: 36 queries per class, the other 1,437 images "
            "are training set and database",
            (8, 8, 1),
            _load_digits,
        ),
        Protocol(
            "cifar10-full",
            "CIFAR-10: trained on the 50,000 training images; the 10,000 test images split into "
            "100 queries per class and a database of 9,000",
            (32, 32, 3),
            _load_cifar10_full,
        ),
        Protocol(
            "cifar10-test",
            "CIFAR-10: trained on the 50,000 training images; the 10,000 test images search each "
            "other, each finding itself too",
            (32, 32, 3),
            _load_cifar10_test,
        ),
        Protocol(
            "cifar10-train",
            "CIFAR-10: the 50,000 training images are training set and database, the 10,000 test "
            "images search",
            (32, 32, 3),
            _load_cifar10_train,
        ),
        Protocol(
            "cifar10-5k",
            "CIFAR-10, all 60,000 images: 100 queries and 500 training images per class at random, "
            "the other 54,000 are the database",
            (32, 32, 3),
            _load_cifar10_5k,
        ),
        Protocol(
            "cifar10-10kq",
            "CIFAR-10, all 60,000 images: 1,000 queries per class at random, the other 50,000 are "
            "training set and database",
            (32, 32, 3),
            _load_cifar10_10kq,
        ),
        Protocol(
            "fashion-mnist",
            "Fashion-MNIST: trained on the 60,000 training images; the 10,000 test images split "
            "into 100 queries per class and a database of 9,000",
            (28, 28, 1),
            _load_fashion_mnist,
        ),
        Protocol(
            "moving-digits",
            "scikit-learn's digits moving from corner to corner, 12 motions as labels: 1,440 clips "
            "are training set and database, 360 clips of other digits search",
            (20, 20, 1),
            clip_protocols.load_moving_digits,
            num_frames=8,
        ),
        Protocol(
            "msr-action3d",
            "MSR-Action3D, 20 actions as depth clips brought to 32x32, cross-subject: subjects 1, "
            "3, 5, 7, 9 are training set and database, subjects 2, 4, 6, 8, 10 search",
            (32, 32, 1),
            clip_protocols.load_msr_action3d,
            num_frames=16,
        ),
        Protocol(
            "ucf101-1",
            "UCF-101, 101 actions, split 1: the training clips are training set and database, the "
            "test clips search",
            VIDEO_SHAPE,
            clip_protocols.load_ucf101,
            num_frames=16,
        ),
        Protocol(
            "hmdb51-1",
            "HMDB-51, 51 actions, split 1: the training clips are training set and database, the "
            "test clips search",
            VIDEO_SHAPE,
            clip_protocols.load_hmdb51,
            num_frames=16,
        ),
    )
}
