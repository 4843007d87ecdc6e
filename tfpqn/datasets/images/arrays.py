"""Images held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfpqn.datasets.image_set import ImageBatch, ImageSet, number_items, number_names
from tfpqn.datasets.plain_images import encode_png


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
    fields = ("images", "labels", "ids")

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
        self.images = images
        self.labels = labels
        self.ids = number_items(ids, labels, len(images), "image")
        self.image_shape = images.shape[1:]
        self.label_names = label_names
        self.mirrors_alike = mirrors_alike
        self.skipped = {}

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> ImageBatch:
        return ImageBatch(self.images[positions], positions)

    def readable(self) -> ImageArrays:
        return self

    def encoded_image(self, position: int) -> bytes:
        return encode_png(self.images[position])
