"""The three parts of a retrieval protocol, and random splits that are the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfpqn.datasets.image_set import ImageSet, find_labelled, fingerprint

SPLIT_SEED = 0
SPLIT_NAMES = ("train", "database", "query")


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


def split_folder(
    images: ImageSet,
    query_share: float = 0.1,
    *,
    labelled: bool = True,
    groups: np.ndarray | None = None,
    known: Mapping[str, bool] | None = None,
) -> Splits:
    """Split a labelled set: of each label a share is queries, the rest training set and database.

    The hash of an item's id decides, so another item that comes or goes does not move it. One
    exception keeps small labels whole: where no hash of a label falls into the share, its item with
    the smallest hash is a query, and where all do, the one with the largest hash is kept. There an
    item that comes or goes can move one other.

    Unlabelled items (label -1, or a multi-hot row without a one) take no part.

    Args:
        images: A set such as `ImageFolder(..).readable()` or `ClipFolder(..).readable()`, whose
            labels are integers or multi-hot rows.
        query_share: Share of each label's items that become queries, at least 0 and below 1. Where
            an item has one label, at least one item of each label is a query, and at least one is
            not.
        labelled: Whether the labels matter. If not, all items take part, as if they had one.
        groups: One name or number an item, of a photographer for instance. The hash of the group
            decides then, and items of one group are never parted; a label of one group alone has
            no query.
        known: Id as text -> whether the item is a query. These items stay where they are, and the
            hash alone decides on the others. It is what a run has recorded of its training.

    Raises:
        ValueError: There are fewer than two labels, a label has a single item (unless labels do not
            matter, or an item may have several: there are fewer than two items), the share is out
            of range, there is not one group an item, or one side would be empty.
    """
    if not 0 <= query_share < 1:
        raise ValueError(f"query_share must lie between 0 and 1. Received: {query_share}")
    keys = images.ids if groups is None else np.asarray(groups)
    if len(keys) != len(images):
        raise ValueError(
            f"groups must hold one entry for each of {len(images)} items. Received: {len(keys)}"
        )
    if labelled:
        chosen = np.flatnonzero(find_labelled(images.labels))
        images, keys = images.subset(chosen), keys[chosen]
    if known is None:
        _require_two_of_each(images, labelled)
    places = np.array([_place(key) for key in keys])
    is_query = places < query_share
    if known is None:
        members = _members(images.labels) if labelled else [np.arange(len(images))]
        _leave_no_side_empty(is_query, places, members)
    else:
        is_query = np.array(
            [known.get(str(id_), bool(q)) for id_, q in zip(images.ids, is_query, strict=True)]
        )
    if is_query.all() or not is_query.any():
        raise ValueError(
            "A split needs an item to search with and one to be found. Received: "
            f"{int(is_query.sum())} queries among {len(is_query)} items"
        )
    database = images.subset(np.flatnonzero(~is_query))
    return Splits(database, database, images.subset(np.flatnonzero(is_query)))


def split_as_told(
    items: ImageSet, names: np.ndarray, *, has_database: bool, labelled: bool = True
) -> Splits:
    """Split a set by the name of each item's part.

    Unlabelled items are not trained on, unless labels do not matter. In the database they are
    relevant to no query.

    Args:
        items: A set whose labels are integers or multi-hot rows.
        names: One of `SPLIT_NAMES` an item.
        has_database: Whether there is a database beside the training set; if not, the training
            items are searched.
        labelled: Whether the labels matter.

    Raises:
        ValueError: A part has no item, or the training set has items of one label alone.
    """
    parts = {name: items.subset(np.flatnonzero(names == name)) for name in SPLIT_NAMES}
    if not has_database:
        parts["database"] = parts["train"]
    if labelled:
        parts["train"] = _require_different_labels(parts["train"])
    sizes = {name: len(part) for name, part in parts.items()}
    if not all(sizes.values()):
        raise ValueError(f"Each split must have an item that can be read. Received: {sizes}")
    return Splits(**parts)


def _require_different_labels(train: ImageSet) -> ImageSet:
    """The items that have a label, which must not be the same for all."""
    chosen = np.flatnonzero(find_labelled(train.labels))
    if len(train) and len(np.unique(train.labels[chosen], axis=0)) < 2:
        raise ValueError(
            "Training items must be of two or more labels. Received: "
            f"{len(chosen)} of {len(train)} items with a label, and no two that differ"
        )
    return train if len(chosen) == len(train) else train.subset(chosen)


def _members(labels: np.ndarray) -> list[np.ndarray]:
    """Positions of the items of each label that has some."""
    if labels.ndim == 1:
        counts = np.unique(labels, return_counts=True)[1]
        return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return [rows for column in labels.T if len(rows := np.flatnonzero(column > 0))]


def _require_two_of_each(images: ImageSet, labelled: bool) -> None:
    if not labelled or images.labels.ndim != 1:
        if len(images) < 2:
            raise ValueError(f"Training needs at least two readable items. Received: {len(images)}")
        return
    labels, counts = np.unique(images.labels, return_counts=True)
    if len(labels) < 2 or counts.min() < 2:
        known = dict(enumerate(images.label_names))
        names = [known.get(label, label) for label in labels.tolist()]
        found = dict(zip(names, counts.tolist(), strict=True))
        single = [name for name, count in found.items() if count == 1]
        received = f"{found}" if len(found) < 5 else f"{len(found)} labels"
        if single:
            received += f", {len(single)} of them of one item, the first {single[0]!r}"
        without = int(np.sum(images.labels < 0)) or len(images) * (not found)
        raise ValueError(
            "Training needs at least two labels (subfolders), and two readable items of each; "
            "without labels it takes views=2. Received: "
            f"{received if found else f'{without} items without a label'}"
        )


def _place(key: Any) -> float:
    """A number in [0, 1) that an id or a group has for ever: the queries are the first ones."""
    digest = hashlib.sha256(str(key).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _leave_no_side_empty(
    is_query: np.ndarray, places: np.ndarray, members: list[np.ndarray]
) -> None:
    """Give each label a query, and then an item that is none; a group has one place, and moves
    as a whole."""
    for rows in members:
        if not is_query[rows].any():
            is_query |= places == places[rows].min()
    for rows in members:
        if is_query[rows].all():
            is_query &= places != places[rows].max()


def draw_per_label(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `count` random items of each label, and of the rest."""
    rng = np.random.default_rng(SPLIT_SEED)
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        drawn[rng.choice(np.flatnonzero(labels == label), count, replace=False)] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)
