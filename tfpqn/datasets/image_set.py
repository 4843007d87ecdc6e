"""A labelled collection of images or clips, read in batches."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from tfpqn.datasets.read_ahead import item_threads, map_ahead
from tfpqn.items import IMAGES, ItemSpec

ImageShape = tuple[int, ...]
# Batches that are read ahead of their use.
BATCHES_AHEAD = 2

_Set = TypeVar("_Set", bound="ImageSet")


class ImageBatch(NamedTuple):
    """A batch of items and their positions in the set.

    Attributes:
        images: uint8 `[batch, height, width, channels]`; of clips
            `[batch, num_frames, height, width, channels]`; of vectors float32 `[batch, dim]`.
        positions: int64 `[batch]`, rows of the set's `labels` and `ids`.
    """

    images: np.ndarray
    positions: np.ndarray


class ImageSet:
    """Base of the collections: an item is an image, or a clip (`ClipSet`) or vector (`VectorSet`).

    A new kind of set needs `read_item`, or `read` if it has a faster way to read many items.

    Attributes:
        labels: int64 `[num_images]`, -1 without a label; or multi-hot `[num_images, num_labels]`.
        ids: int64 or string array `[num_images]`: the external name of each image.
        image_shape: `(height, width, channels)`; of vectors `(dim,)`.
        items: What the items are.
        item_dtype: Dtype of an item.
        label_names: Name of each label value, or empty.
        metadata: Further columns that an index keeps: name -> one value per item, as an Arrow array
            where some are missing.
        skipped: What could not be read so far: id -> reason.
        passed_over: Files of a folder that are no items: their kind -> how many.
        mirrors_alike: Whether a mirrored item keeps its label.
        in_memory: Whether all items are held in memory; others are read by several threads.
        has_own_ids: Whether ids are more than row numbers of a file.
        fields: Names of the arrays that have one entry an item; `subset` chooses among these.
    """

    items: ClassVar[ItemSpec] = IMAGES
    item_dtype: ClassVar[str] = "uint8"
    mirrors_alike: bool = True
    metadata: Mapping[str, Any] = MappingProxyType({})
    in_memory: ClassVar[bool] = False
    has_own_ids: bool = True
    fields: ClassVar[tuple[str, ...]] = ("labels", "ids")
    labels: np.ndarray
    ids: np.ndarray
    image_shape: tuple[int, ...]
    label_names: tuple[str, ...]
    skipped: dict[Any, str]
    passed_over: Mapping[str, int] = MappingProxyType({})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item of a batch: that of an image, or of all frames of a clip."""
        return self.image_shape

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        """One item.

        Args:
            position: Row of the set.
            seed: For what is random in the reading, such as the choice of a clip's frames; without
                it nothing is.

        Returns:
            uint8 array of `item_shape`.

        Raises:
            ValueError: The item cannot be decoded.
            OSError: The item cannot be read.
        """
        raise NotImplementedError

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> ImageBatch:
        """The items at the given positions, in order.

        Items that cannot be read are left out and noted in `skipped`.

        Args:
            positions: int64 `[batch]`, rows of the set, in any order and as often as wished.
            seeds: int64 `[batch]`, one for each item, see `read_item`.
        """
        given = positions.tolist(), [None] * len(positions) if seeds is None else seeds.tolist()
        each = map if self.in_memory else item_threads().map
        items = list(each(self._try_item, *given))
        is_read = np.array([item is not None for item in items], bool)
        images = np.empty((np.count_nonzero(is_read), *self.item_shape), self.item_dtype)
        for row, item in zip(images, (item for item in items if item is not None), strict=True):
            row[...] = item
        return ImageBatch(images, positions[is_read])

    def _try_item(self, position: int, seed: int | None) -> np.ndarray | None:
        try:
            return self.read_item(position, seed)
        except (OSError, ValueError) as error:
            self.skipped[self.ids[position]] = " ".join(str(error).split())
            return None

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[ImageBatch]:
        """All items in order, or those at `positions`, the next batches being read meanwhile.

        The last batch may be smaller, and so may others, of which items cannot be read.
        """
        chosen = np.arange(len(self)) if positions is None else positions
        parts = (chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size))
        for batch in map_ahead(self.read, parts, num_ahead=BATCHES_AHEAD, num_threads=1):
            if len(batch.positions):
                yield batch

    def readable(self: _Set) -> _Set:
        """This set without the items that cannot be read (a pass over all of them).

        Raises:
            ValueError: None can be read.
        """
        batches = self.batches(self.items_per_batch(256))
        return self._found([batch.positions for batch in batches])

    def _found(self: _Set, found: list[np.ndarray]) -> _Set:
        """The items that batches had; a ValueError if there was no batch."""
        if not found:
            raise ValueError(
                f"A set must hold at least one readable item. Received: {len(self)} items, none "
                f"readable; the first: {next(iter(self.skipped.items()), None)}"
            )
        return self.subset(np.concatenate(found))

    def held_in_memory(self, most_bytes: int) -> ImageSet:
        """This set with its items in memory, if it is made of image files of at most so many bytes
        once they are decoded; else the set as it is. What cannot be read is left out."""
        return self

    @property
    def has_labels(self) -> bool:
        """Whether labels tell items apart: a single label, or subfolder, is as good as none."""
        labels = self.labels[find_labelled(self.labels)]
        return bool((labels != labels[:1]).any())

    def items_per_batch(self, num_images: int) -> int:
        """Items that weigh as much as so many images: of clips fewer, at least one."""
        return max(1, num_images * math.prod(self.image_shape) // math.prod(self.item_shape))

    def subset(self: _Set, positions: np.ndarray) -> _Set:
        """The items at the given positions, with their labels and ids."""
        part = copy.copy(self)
        for field in self.fields:
            setattr(part, field, getattr(self, field)[positions])
        part.metadata = self.metadata_at(positions)
        return part

    def metadata_at(self, positions: np.ndarray) -> dict[str, Any]:
        """The metadata of the items at the given positions."""
        rows = np.arange(len(self))[positions]
        return {
            name: values.take(rows) if is_arrow(values) else np.asarray(values)[rows]
            for name, values in self.metadata.items()
        }

    def stamp(self, position: int) -> Any:
        """What changes when the item on disk does; of items in memory None."""
        if not hasattr(self, "files"):
            return None
        status = self.files[position].stat()
        return status.st_size, status.st_mtime_ns, getattr(self, "resize", None)

    def content(self) -> str | None:
        """Digest by which other contents under the same ids are noticed, of files by their sizes
        alone; None if there is none."""
        if not hasattr(self, "files"):
            return None
        sizes = [str(file.stat().st_size) for file in self.files]
        return fingerprint(np.array(sizes))

    def encoded_image(self, position: int) -> bytes:
        """One image as PNG or in its file's own encoding: what a search request carries."""
        raise TypeError(
            "A set of images must be asked for an encoded_image. "
            f"Received: encoded_image({position}) of a {type(self).__name__}"
        )


def find_labelled(labels: np.ndarray) -> np.ndarray:
    """Which items have a label: -1 is none in a column, and all zeros are in multi-hot rows."""
    return np.asarray(labels >= 0 if labels.ndim == 1 else (labels > 0).any(axis=1))


def number_names(labels: Any, label_names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as numbers with their names; labels that are names get their places in `label_names`.

    Args:
        labels: One per item: whole numbers `[num_items]` or `[num_items, 1]`, multi-hot rows, or
            names.
        label_names: Name of each number; if empty, names are numbered in sorted order.

    Raises:
        ValueError: A name is not among `label_names`, or labels are none of these.
    """
    labels, names = np.asarray(labels), tuple(label_names)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not len(labels) or not all(isinstance(name, str) for name in labels):
        _require_numbers(labels)
        return labels, names
    names = names or tuple(sorted(set(labels.tolist())))
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted(set(labels.tolist()) - set(names))
    if unknown:
        raise ValueError(f"labels must be among {list(names)}. Received: {unknown}")
    return np.array([numbers[name] for name in labels.tolist()], np.int64), names


def _require_numbers(labels: np.ndarray) -> None:
    is_right = labels.ndim in (1, 2) and labels.dtype.kind in "biuf"
    if is_right and labels.ndim == 2:
        is_right = bool(((labels == 0) | (labels == 1)).all())
    elif is_right and labels.dtype.kind == "f":
        is_right = np.array_equal(labels, np.floor(labels))
    if not is_right:
        raise ValueError(
            "labels must be integers [num_items], or multi-hot rows [num_items, num_labels] of 0 "
            f"and 1. Received: {labels.dtype} {labels.shape}, such as {labels.ravel()[:3].tolist()}"
        )


def number_items(ids: Any, labels: np.ndarray, num_items: int, kind: str) -> np.ndarray:
    """The ids as an array; 0, 1, 2, .. without any.

    Raises:
        ValueError: There is not one of the ids and one of the labels an item.
    """
    ids = np.arange(num_items) if ids is None else np.asarray(ids)
    if len(labels) != num_items or len(ids) != num_items:
        raise ValueError(
            f"labels and ids must have one entry per {kind}. Received: "
            f"{num_items} {kind}s, {len(labels)} labels, {len(ids)} ids"
        )
    if ids.ndim != 1:
        raise ValueError(f"ids must have shape [num_{kind}s]. Received: {list(ids.shape)}")
    return ids


def is_arrow(values: Any) -> bool:
    """Whether values are an Arrow array, which alone knows missing numbers."""
    return isinstance(values, (pa.Array, pa.ChunkedArray))


def fingerprint(ids: np.ndarray) -> str:
    """Short digest of a split: which items, in which order."""
    return hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()[:16]
