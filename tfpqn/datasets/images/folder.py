"""A folder of images with one subfolder per label."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tfpqn.datasets.image_set import ImageSet, ImageShape
from tfpqn.datasets.images.arrays import ImageArrays
from tfpqn.datasets.images.decoding import decode_image_bytes
from tfpqn.datasets.labelled_files import find_labelled_files
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
        resize: What becomes of images of another aspect, see `decode_image`.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no image.
    """

    fields = ("files", "labels", "ids")

    def __init__(
        self, folder: str | Path, image_shape: ImageShape, resize: str = "stretch"
    ) -> None:
        self.folder = Path(folder)
        found = find_labelled_files(self.folder, "image", IMAGE_SUFFIXES)
        self.files, self.ids, self.labels, self.label_names, self.passed_over = found
        self.image_shape, self.resize = image_shape, resize
        self.skipped = {}

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        return decode_image_bytes(self.encoded_image(position), self.image_shape, self.resize)

    def held_in_memory(self, most_bytes: int) -> ImageSet:
        if len(self) * math.prod(self.image_shape) > most_bytes:
            return self
        batches = list(self.batches(256))
        part = self._found([batch.positions for batch in batches])
        images = np.concatenate([batch.images for batch in batches])
        return ImageArrays(images, part.labels, part.ids, part.label_names)

    def encoded_image(self, position: int) -> bytes:
        return make_plain(self.files[position].read_bytes())
