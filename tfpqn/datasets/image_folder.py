"""A folder of images with one subfolder per label."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np

from tfpqn.datasets.decoding import decode_image, plain_sentence
from tfpqn.datasets.image_set import ImageArrays, ImageSet, ImageShape
from tfpqn.datasets.item_reading import find_readable, read_items
from tfpqn.datasets.labelled_files import LabelledFiles, find_labelled_files
from tfpqn.datasets.lazy_tensorflow import tf
from tfpqn.datasets.plain_images import IMAGE_SUFFIXES, make_plain


class ImageFolder(ImageSet):
    """Image files below a folder, one subfolder per label, read and decoded in parallel.

    The id of an image is its path relative to the folder, with forward slashes. Every file is read
    as `make_plain` makes it. A file that cannot be decoded is skipped and noted in `skipped`; files
    of other kinds are counted in `passed_over`. `find_labelled_files` says what becomes of hidden
    files and of links.

    Args:
        folder: The folder. If images lie in it directly they get the label -1 ("unlabelled").
        image_shape: `(height, width, channels)` to decode to.
        label_names: Names that fix the label numbers, so that several folders agree; the sorted
            names of the subfolders by default.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no image.
        ValueError: A subfolder is not among `label_names`.
    """

    def __init__(
        self,
        folder: str | Path,
        image_shape: ImageShape,
        label_names: tuple[str, ...] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._set_files(find_labelled_files(self.folder, "image", IMAGE_SUFFIXES, label_names))
        self.image_shape = image_shape
        self.skipped = {}

    def _set_files(self, found: LabelledFiles) -> None:
        self._found = found
        self.files, self.ids, self.labels, self.label_names, self.passed_over = found

    def load(
        self,
        positions: tf.data.Dataset,
        batch_size: int,
        seeds: tf.data.Dataset | None = None,
    ) -> tf.data.Dataset:
        return read_items(positions, self._read, self.image_shape, batch_size)

    def _read(self, position: np.int64) -> tuple[np.ndarray, np.bool_]:
        try:
            data = self.encoded_image(int(position))
            return decode_image(tf.constant(data), self.image_shape).numpy(), np.bool_(True)
        except (OSError, ValueError, tf.errors.OpError) as error:
            message = error.message if isinstance(error, tf.errors.OpError) else str(error)
            self.skipped[self.ids[position]] = plain_sentence(message)
            return np.zeros(self.image_shape, np.uint8), np.bool_(False)

    def held_in_memory(self, most_bytes: int) -> ImageSet:
        if len(self) * math.prod(self.image_shape) > most_bytes:
            return self
        batches = list(self.batches(256))
        part = self.subset(np.concatenate([batch.positions for batch in batches]))
        images = np.concatenate([batch.images for batch in batches])
        return ImageArrays(images, part.labels, part.ids, part.label_names)

    def readable(self) -> ImageFolder:
        need = f"{self.folder} must hold at least one readable image"
        return self.subset(find_readable(self, 256, need, "files"))

    def subset(self, positions: np.ndarray) -> ImageFolder:
        part = copy.copy(self)
        part._set_files(self._found.take(positions))
        return part

    def encoded_image(self, position: int) -> bytes:
        return make_plain(self.files[position].read_bytes())
