"""Items by a list of their files, or of the files' bytes: what a worker reads of a collection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.datasets import ClipFolder, ImageFolder, ImageSet
from tfpqn.datasets.plain_images import make_plain

_SECONDS_BEFORE_RETRY = 0.5
# These do not pass by themselves.
_LASTING_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError)


class _ListedFiles(ImageSet):
    """Files without labels; what a shared file system refuses once is asked for again."""

    def __init__(
        self, files: Sequence[Any], ids: np.ndarray, image_shape: tuple[int, ...], resize: str
    ) -> None:
        self.files, self.ids = np.array(files, object), ids
        self.labels = np.full(len(ids), -1, np.int64)
        self.label_names = ()
        self.image_shape, self.resize = image_shape, resize
        self.skipped = {}

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        try:
            return super().read_item(position, seed)
        except _LASTING_ERRORS:
            raise
        except OSError:
            time.sleep(_SECONDS_BEFORE_RETRY)
            return super().read_item(position, seed)


class ListedImages(_ListedFiles, ImageFolder):
    """Images by their files; read as `ImageFolder` reads them.

    Args:
        files: Of each image the path of its file, or the bytes of one.
        ids: One per image.
        image_shape: `(height, width, channels)` to decode to.
        resize: What becomes of images of another aspect, see `decode_image`.
    """

    def encoded_image(self, position: int) -> bytes:
        file = self.files[position]
        return make_plain(file) if isinstance(file, bytes) else super().encoded_image(position)


class ListedClips(_ListedFiles, ClipFolder):
    """Clips by their video files; read as `ClipFolder` reads them."""

    def __init__(
        self,
        files: Sequence[Path],
        ids: np.ndarray,
        image_shape: tuple[int, ...],
        resize: str,
        num_frames: int,
    ) -> None:
        super().__init__(files, ids, image_shape, resize)
        self.num_frames = num_frames
