"""What a search is made with, read from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfpqn.items import ItemSpec


def read_query(path: Path, items: ItemSpec, num_frames: int) -> Any:
    """The bytes of an image, or the encoded frames of a clip, as `make_plain` makes them.

    Args:
        path: An image file; of clips a video file, or a folder of images that are its frames in
            the order of their names.
        items: What the model searches with.
        num_frames: Frames to take of a video file.

    Raises:
        FileNotFoundError: There is no such file or folder, or a folder holds no image.
        ValueError: A video file cannot be decoded, or an image is none or too large.
    """
    return _READ[items.kind](path, num_frames)


def _read_photo(path: Path, num_frames: int) -> bytes:
    _require_file(path, "an image file")
    return _read_image(path)


def _read_clip(path: Path, num_frames: int) -> list[bytes]:
    from tfpqn.datasets import IMAGE_SUFFIXES, encode_frames, read_frames

    if path.is_dir():
        return _read_folder(path)
    _require_file(path, "a video file or a folder of frames")
    if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".gif":
        raise ValueError(
            f"A clip must be a video file or a folder of frames. Received: {str(path)!r}, an image"
        )
    return encode_frames(read_frames(path, num_frames))


_READ: dict[str, Callable[[Path, int], Any]] = {"images": _read_photo, "clips": _read_clip}


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
