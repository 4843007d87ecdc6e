"""A labelled collection of images, read in batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tfpqn.datasets.lazy_tensorflow import tf

ImageShape = tuple[int, int, int]


class ImageBatch(NamedTuple):
    """A batch of images and their positions in the set.

    Attributes:
        images: uint8 `[batch, height, width, channels]`; of clips
            `[batch, num_frames, height, width, channels]`.
        positions: int64 `[batch]`, rows of the set's `labels` and `ids`.
    """

    images: np.ndarray
    positions: np.ndarray


class ImageSet:
    """Base of the collections: an item is an image, or (in a `ClipSet`) a clip.

    Attributes:
        labels: int64 `[num_images]`, -1 without a label; or multi-hot `[num_images, num_labels]`.
        ids: int64 or string array `[num_images]`: the external name of each image.
        image_shape: `(height, width, channels)`.
        label_names: Name of each label value, or empty.
        skipped: What could not be read so far: id -> reason.
        passed_over: Files of a folder that are no items: their kind -> how many.
        mirrors_alike: Whether a mirrored item keeps its label.
        in_memory: Whether all items are held in memory; such a set is read without TensorFlow.
    """

    mirrors_alike: bool = True
    in_memory: bool = False
    labels: np.ndarray
    ids: np.ndarray
    image_shape: ImageShape
    label_names: tuple[str, ...]
    skipped: dict[Any, str]
    passed_over: Mapping[str, int] = MappingProxyType({})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item of a batch: that of an image, or of all frames of a clip."""
        return self.image_shape

    def load(
        self,
        positions: tf.data.Dataset,
        batch_size: int,
        seeds: tf.data.Dataset | None = None,
    ) -> tf.data.Dataset:
        """Turn a dataset of int64 positions into `(images, positions)` batches, in order.

        Images that cannot be read are left out and noted in `skipped`.

        Args:
            positions: Rows of the set, in any order and as often as wished.
            batch_size: Items per batch; the last may be smaller.
            seeds: Dataset of int64, one per position: each seeds the random reading of its item.
                Nothing is random in the reading of an image: image sets ignore it.
        """
        raise NotImplementedError

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> np.ndarray:
        """The items at the given positions, of a set that is held in memory.

        Args:
            positions: int64 `[batch]`, rows of the set, in any order and as often as wished.
            seeds: int64 `[batch]`, each for the random reading of its item; see `load`.

        Returns:
            uint8 `[batch, ..]`, each item of `item_shape`.

        Raises:
            TypeError: The set is not held in memory.
            ValueError: An item cannot be read.
        """
        raise TypeError(
            "Only images and clips held in memory are read without TensorFlow, such as ImageArrays "
            f"and ClipArrays. Received: {type(self).__name__}"
        )

    def held_in_memory(self, most_bytes: int) -> ImageSet:
        """This set with its items in memory, if it is made of image files of at most so many bytes
        once they are decoded; else the set as it is. What cannot be read is left out."""
        return self

    def readable(self) -> ImageSet:
        """This set without the images that cannot be read (a pass over all of them)."""
        raise NotImplementedError

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[ImageBatch]:
        """All images in order, or those at `positions`; the last batch may be smaller."""
        chosen = np.arange(len(self)) if positions is None else positions
        if self.in_memory:
            chosen = self._leave_out_unreadable(chosen)
            for start in range(0, len(chosen), batch_size):
                rows = chosen[start : start + batch_size]
                yield ImageBatch(self.read(rows), rows)
            return
        dataset = tf.data.Dataset.from_tensor_slices(chosen)
        for images, rows in self.load(dataset, batch_size).prefetch(2).as_numpy_iterator():
            yield ImageBatch(images, rows)

    def _leave_out_unreadable(self, positions: np.ndarray) -> np.ndarray:
        """Of a set in memory: the positions of the items that can be read, the others noted."""
        return positions

    def items_per_batch(self, num_images: int) -> int:
        """Items that weigh as much as so many images: of clips fewer, at least one."""
        return max(1, num_images * math.prod(self.image_shape) // math.prod(self.item_shape))

    def subset(self, positions: np.ndarray) -> ImageSet:
        """The images at the given positions, with their labels and ids."""
        raise NotImplementedError

    def encoded_image(self, position: int) -> bytes:
        """One image as PNG or in its file's own encoding: what a search request carries."""
        raise NotImplementedError


class ImageArrays(ImageSet):
    """Images held in memory.

    Args:
        images: uint8 `[num_images, height, width, channels]`.
        labels: One per image: integers, multi-hot rows, or names, which are numbered.
        ids: One per image; 0, 1, 2, .. by default.
        label_names: Name of each label value; of labels that are names the sorted names.
        mirrors_alike: Whether a mirrored image keeps its label; a digit does not.

    Raises:
        ValueError: Shapes or dtypes are off, lengths differ, or a label is not among `label_names`.
    """

    in_memory = True

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        ids: np.ndarray | None = None,
        label_names: Sequence[str] = (),
        *,
        mirrors_alike: bool = True,
    ) -> None:
        images = np.asarray(images)
        labels, label_names = number_names(labels, label_names)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                "images must be uint8 [num_images, height, width, channels]. "
                f"Received: {images.dtype} {images.shape}"
            )
        ids = np.arange(len(images)) if ids is None else np.asarray(ids)
        if len(labels) != len(images) or len(ids) != len(images):
            raise ValueError(
                "labels and ids must have one entry per image. Received: "
                f"{len(images)} images, {len(labels)} labels, {len(ids)} ids"
            )
        self.images = images
        self.labels = labels
        self.ids = ids
        self.image_shape = images.shape[1:]
        self.label_names = label_names
        self.mirrors_alike = mirrors_alike
        self.skipped = {}

    def load(
        self,
        positions: tf.data.Dataset,
        batch_size: int,
        seeds: tf.data.Dataset | None = None,
    ) -> tf.data.Dataset:
        images = tf.constant(self.images)
        return positions.batch(batch_size).map(lambda rows: (tf.gather(images, rows), rows))

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> np.ndarray:
        return self.images[positions]

    def readable(self) -> ImageArrays:
        return self

    def subset(self, positions: np.ndarray) -> ImageArrays:
        return ImageArrays(
            self.images[positions],
            self.labels[positions],
            self.ids[positions],
            self.label_names,
            mirrors_alike=self.mirrors_alike,
        )

    def encoded_image(self, position: int) -> bytes:
        return tf.io.encode_png(self.images[position]).numpy()


def number_names(labels: Any, label_names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as numbers with their names; labels that are names get their places in `label_names`.

    Args:
        labels: One per item: numbers, multi-hot rows, or names.
        label_names: Name of each number; if empty, names are numbered in sorted order.

    Raises:
        ValueError: A name is not among `label_names`.
    """
    labels, names = np.asarray(labels), tuple(label_names)
    if labels.ndim != 1 or not len(labels) or not all(isinstance(name, str) for name in labels):
        return labels, names
    names = names or tuple(sorted(set(labels.tolist())))
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted(set(labels.tolist()) - set(names))
    if unknown:
        raise ValueError(f"labels must be among {list(names)}. Received: {unknown}")
    return np.array([numbers[name] for name in labels.tolist()], np.int64), names


def fingerprint(ids: np.ndarray) -> str:
    """Short digest of a split: which items, in which order."""
    return hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()[:16]
