"""Items by a list of their files, or of the files' bytes: what a worker reads of a collection."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from tfpqn.datasets import ImageSet
from tfpqn.datasets.clips.clip_set import ClipSet
from tfpqn.datasets.clips.video import read_frames
from tfpqn.datasets.images.decoding import decode_image_bytes, fit_frame
from tfpqn.datasets.plain_images import make_plain

_SECONDS_BEFORE_RETRY = 0.5
# These do not pass by themselves.
_LASTING_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError)


class ListedImages(ImageSet):
    """Images by their files; read as `ImageFolder` reads them.

    Args:
        sources: Of each image the path of its file, or the bytes of one.
        ids: One per image.
        image_shape: `(height, width, channels)` to decode to.
        resize: What becomes of images of another aspect, see `decode_image`.
    """

    def __init__(
        self,
        sources: Sequence[str | bytes],
        ids: np.ndarray,
        image_shape: tuple[int, ...],
        resize: str,
    ) -> None:
        self.sources, self.ids = sources, ids
        self.labels = np.full(len(ids), -1, np.int64)
        self.label_names = ()
        self.image_shape, self.resize = image_shape, resize
        self.skipped = {}

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        source = self.sources[position]
        data = source if isinstance(source, bytes) else read_patiently(source)
        return decode_image_bytes(make_plain(data), self.image_shape, self.resize)


class ListedClips(ListedImages, ClipSet):
    """Clips by their video files; read as `ClipFolder` reads them."""

    def __init__(
        self,
        sources: Sequence[str],
        ids: np.ndarray,
        image_shape: tuple[int, ...],
        resize: str,
        num_frames: int,
    ) -> None:
        super().__init__(sources, ids, image_shape, resize)
        self.num_frames = num_frames

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        frames = read_frames(os.fspath(self.sources[position]), self.num_frames, seed)
        shape, resize = self.image_shape, self.resize
        return np.stack([fit_frame(frame, shape, resize).numpy() for frame in frames])


def read_patiently(path: str) -> bytes:
    """The bytes of a file; what a shared file system refuses once is asked for again."""
    try:
        return _read(path)
    except _LASTING_ERRORS:
        raise
    except OSError:
        time.sleep(_SECONDS_BEFORE_RETRY)
        return _read(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
