"""Retrieval protocols by name: which images train, which are searched, which search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfpqn.datasets.image_set import ImageArrays, ImageSet, ImageShape, fingerprint

SPLIT_SEED = 0


@dataclass(frozen=True)
class Splits:
    """The three parts of a protocol.

    Attributes:
        train: What the network learns from.
        database: What is coded and searched.
        query: What searches.
    """

    train: ImageSet
    database: ImageSet
    query: ImageSet

    def describe(self) -> dict[str, object]:
        """Sizes and digests of the parts, for reports."""
        parts = {"train": self.train, "database": self.database, "query": self.query}
        return {
            name: {"num_images": len(part), "fingerprint": fingerprint(part.ids)}
            for name, part in parts.items()
        }


@dataclass(frozen=True)
class Protocol:
    """A named way to split a data set.

    Attributes:
        name: Name on the command line.
        description: One sentence on the split.
        image_shape: `(height, width, channels)`.
        loader: From the data directory (or None) to the splits.
    """

    name: str
    description: str
    image_shape: ImageShape
    loader: Callable[[Path | None], Splits]

    def load(self, data_dir: str | Path | None = None) -> Splits:
        """Read the data.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets; None for its own default.

        Raises:
            FileNotFoundError: The data is not there; the message says how to get it.
        """
        return self.loader(Path(data_dir) if data_dir is not None else None)


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


def split_folder(images: ImageSet, query_share: float = 0.1) -> Splits:
    """Split a labelled set: of each label a share is queries, the rest training set and database.

    Unlabelled images (label -1) take no part.

    Args:
        images: A set with integer labels, such as `ImageFolder(..).readable()`.
        query_share: Share of each label's images that become queries, between 0 and 1; at least
            one image of each label is a query, and at least one is not.

    Raises:
        ValueError: There are fewer than two labels, a label has a single image, or the share is
            out of range.
    """
    if not 0 <= query_share < 1:
        raise ValueError(f"query_share must lie between 0 and 1. Received: {query_share}")
    if (images.labels < 0).any():
        images = images.subset(np.flatnonzero(images.labels >= 0))
    labels, counts = np.unique(images.labels, return_counts=True)
    if len(labels) < 2 or counts.min() < 2:
        known = dict(enumerate(images.label_names))
        names = [known.get(label, label) for label in labels.tolist()]
        raise ValueError(
            "Training needs at least two labels (subfolders) with two readable images each. "
            f"Received: {dict(zip(names, counts.tolist(), strict=True))} images by label"
        )
    query, rest = _draw_per_label(images.labels, query_share)
    database = images.subset(rest)
    return Splits(train=database, database=database, query=images.subset(query))


def _load_digits(data_dir: Path | None) -> Splits:
    """scikit-learn's handwritten digits: no data directory needed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype(np.uint8)[..., np.newaxis]
    everything = ImageArrays(images, digits.target, label_names=[str(d) for d in range(10)])
    query, rest = _draw_per_label(everything.labels, 36)
    database = everything.subset(rest)
    return Splits(train=database, database=database, query=everything.subset(query))


def _load_cifar10_full(data_dir: Path | None) -> Splits:
    train, test = _cifar10(data_dir)
    query, rest = _draw_per_label(test.labels, 100)
    return Splits(train=train, database=test.subset(rest), query=test.subset(query))


def _load_cifar10_5k(data_dir: Path | None) -> Splits:
    everything = _concatenate(*_cifar10(data_dir))
    query, rest = _draw_per_label(everything.labels, 100)
    train, database = _draw_per_label(everything.labels[rest], 500)
    return Splits(
        train=everything.subset(rest[train]),
        database=everything.subset(rest[database]),
        query=everything.subset(query),
    )


def _load_cifar10_10kq(data_dir: Path | None) -> Splits:
    everything = _concatenate(*_cifar10(data_dir))
    query, rest = _draw_per_label(everything.labels, 1000)
    database = everything.subset(rest)
    return Splits(train=database, database=database, query=everything.subset(query))


def _cifar10(data_dir: Path | None) -> tuple[ImageArrays, ImageArrays]:
    """CIFAR-10 as prepared by tensorflow-datasets; ids 0 .. 49999 train, 50000 .. 59999 test."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", data_dir=data_dir)
    if not (builder.data_path / "dataset_info.json").exists():
        raise FileNotFoundError(
            f"CIFAR-10 must lie prepared in the data directory. Received: {builder.data_dir!s}, "
            'which does not hold it. Get it once with `python -c "import tensorflow_datasets; '
            "tensorflow_datasets.load('cifar10', data_dir='DIR')\"` and pass `--data-dir DIR`"
        )
    parts = [tfds.as_numpy(builder.as_dataset(split=s, batch_size=-1)) for s in ("train", "test")]
    names = builder.info.features["label"].names
    starts = (0, len(parts[0]["label"]))
    train, test = (
        ImageArrays(p["image"], p["label"].astype(np.int64), s + np.arange(len(p["label"])), names)
        for p, s in zip(parts, starts, strict=True)
    )
    return train, test


def _concatenate(first: ImageArrays, second: ImageArrays) -> ImageArrays:
    images, labels, ids = (
        np.concatenate([getattr(first, field), getattr(second, field)])
        for field in ("images", "labels", "ids")
    )
    return ImageArrays(images, labels, ids, first.label_names)


def _draw_per_label(labels: np.ndarray, count: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of random items of each label (a number, or a share), and of the rest."""
    rng = np.random.default_rng(SPLIT_SEED)
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share = min(max(1, round(count * len(members))), len(members) - 1)
        size = count if isinstance(count, int) else share
        drawn[rng.choice(members, size, replace=False)] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)


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
    )
}
