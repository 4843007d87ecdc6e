"""What a search is made with, read from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.items import ItemSpec

# Of one file; a server takes no more rows in one request.
MOST_VECTORS = 1024


def read_queries(path: Path, items: ItemSpec, num_frames: int) -> Any:
    """What a file holds to search with: a list of one image or clip, or vectors `[batch, dim]`.

    Images and frames are encoded, as `make_plain` makes them.

    Args:
        path: An image file; of clips a video file, or a folder of images that are its frames in
            the order of their names; of vectors what `tfpqn.datasets.open_vectors` takes.
        items: What the model searches with.
        num_frames: Frames to take of a video file.

    Raises:
        FileNotFoundError: There is no such file or folder, or a folder holds no image.
        ValueError: A video file cannot be decoded, or an image is none or too large.
    """
    return _READ[items.kind](path, num_frames)


def _read_photo(path: Path, num_frames: int) -> list[bytes]:
    _require_file(path, "an image file")
    return [_read_image(path)]


def _read_vectors(path: Path, num_frames: int) -> np.ndarray:
    from tfpqn.datasets import open_vectors

    vectors = open_vectors(path)
    if len(vectors) > MOST_VECTORS:
        raise ValueError(
            f"A file must hold at most {MOST_VECTORS} vectors to search with. "
            f"Received: {len(vectors)} in {str(path)!r}"
        )
    return vectors.read(np.arange(len(vectors))).images


def _read_clip(path: Path, num_frames: int) -> list[list[bytes]]:
    from tfpqn.datasets import IMAGE_SUFFIXES, encode_frames, read_frames

    if path.is_dir():
        return [_read_folder(path)]
    _require_file(path, "a video file or a folder of frames")
    if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".gif":
        raise ValueError(
            f"A clip must be a video file or a folder of frames. Received: {str(path)!r}, an image"
        )
    return [encode_frames(read_frames(path, num_frames))]


_READ: dict[str, Callable[[Path, int], Any]] = {
    "images": _read_photo,
    "clips": _read_clip,
    "vectors": _read_vectors,
}


def _require_file(path: Path, kind: str) -> None:
    if not path.is_file():
        received = "which is a folder" if path.is_dir() else "which does not exist"
        raise FileNotFoundError(f"A query must be {kind}. Received: {str(path)!r}, {received}")


def _read_folder(folder: Path) -> list[bytes]:
    from tfpqn.datasets import IMAGE_SUFFIXES
    from tfpqn.datasets.labelled_files import is_hidden

    images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    files = sorted(file for file in images if not is_hidden(file.name))
    if not files:
        raise FileNotFoundError(
            f"A clip's folder must hold its frames as images ({', '.join(IMAGE_SUFFIXES)}). "
            f"Received: {str(folder)!r}, which holds none"
        )
    return [_read_image(file) for file in files]


def _read_image(path: Path) -> bytes:
    from tfpqn.datasets import make_plain

    try:
        return make_plain(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
