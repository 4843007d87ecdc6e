"""The three parts of a retrieval protocol, and random splits that are the same every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfpqn.datasets.image_set import ImageSet, fingerprint

SPLIT_SEED = 0


@dataclass(frozen=True)
class Splits:
    """The three parts of a protocol: sets of images, or of clips.

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


def split_folder(images: ImageSet, query_share: float = 0.1, *, labelled: bool = True) -> Splits:
    """Split a labelled set: of each label a share is queries, the rest training set and database.

    Unlabelled items (label -1) take no part.

    Args:
        images: A set with integer labels, such as `ImageFolder(..).readable()` or
            `ClipFolder(..).readable()`.
        query_share: Share of each label's items that become queries, between 0 and 1; at least
            one item of each label is a query, and at least one is not.
        labelled: Whether the labels matter. If not, all items take part, as if they had one.

    Raises:
        ValueError: There are fewer than two labels, a label has a single item (unless labels do not
            matter: there are fewer than two items), or the share is out of range.
    """
    if not 0 <= query_share < 1:
        raise ValueError(f"query_share must lie between 0 and 1. Received: {query_share}")
    if labelled and (images.labels < 0).any():
        images = images.subset(np.flatnonzero(images.labels >= 0))
    labels, counts = np.unique(images.labels, return_counts=True)
    if not labelled and len(images) < 2:
        raise ValueError(f"Training needs at least two readable items. Received: {len(images)}")
    if labelled and (len(labels) < 2 or counts.min() < 2):
        known = dict(enumerate(images.label_names))
        names = [known.get(label, label) for label in labels.tolist()]
        raise ValueError(
            "Training needs at least two labels (subfolders) with two readable items each. "
            f"Received: {dict(zip(names, counts.tolist(), strict=True))} items by label"
        )
    drawn_by = images.labels if labelled else np.zeros(len(images), np.int64)
    query, rest = draw_per_label(drawn_by, query_share)
    database = images.subset(rest)
    return Splits(train=database, database=database, query=images.subset(query))


def draw_per_label(labels: np.ndarray, count: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of random items of each label (a number, or a share), and of the rest."""
    rng = np.random.default_rng(SPLIT_SEED)
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share = min(max(1, round(count * len(members))), len(members) - 1)
        size = count if isinstance(count, int) else share
        drawn[rng.choice(members, size, replace=False)] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)
