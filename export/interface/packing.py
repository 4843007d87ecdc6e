"""Items to search with, and ids of items, as the inputs of a signature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

CONTENTS = {"images": "the bytes of image files", "clips": "clips"}


def pack_items(items: Sequence[Any], are_clips: bool) -> np.ndarray:
    """Encoded images as an array `[batch]`, or clips as `[batch, num_frames]`.

    Clips of different lengths are filled up with empty strings, which the graph takes for no frame.

    Args:
        items: The bytes of an image file each; of clips a sequence of such bytes each.
        are_clips: Whether the items are clips.

    Returns:
        Object array of bytes.

    Raises:
        TypeError: `items` is a single string, or an item is of the wrong kind.
    """
    kind = "clips" if are_clips else "images"
    items = _to_list(items, f"{kind} must be a sequence of {CONTENTS[kind]}")
    if not are_clips:
        for item in items:
            _require_bytes("An image", item)
        return np.array(items, dtype=object)
    clips = [_to_frames(item) for item in items]
    length = max(map(len, clips), default=0)
    packed = np.full((len(clips), length), b"", dtype=object)
    for row, clip in zip(packed, clips, strict=True):
        row[: len(clip)] = clip
    return packed


def _to_frames(clip: Any) -> list[bytes]:
    frames = _to_list(
        clip, f"A clip must be a sequence of {CONTENTS['images']}, one for each frame"
    )
    for frame in frames:
        _require_bytes("A frame", frame)
    return frames


def _to_list(value: Any, sentence: str) -> list[Any]:
    """The value as a list; a single string counts as one thing, not as a sequence."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{sentence}. Received: one {type(value).__name__}; put it into a list")
    if not isinstance(value, Iterable):
        raise TypeError(f"{sentence}. Received: {type(value).__name__}")
    return list(value)


def _require_bytes(name: str, value: Any) -> None:
    if not isinstance(value, bytes):
        raise TypeError(
            f"{name} must be the bytes of an image file. Received: {type(value).__name__}"
        )


def pack_ids(name: str, ids: Iterable[Any], id_type: str) -> np.ndarray:
    """Ids of a model's type as an array `[batch]`; text as UTF-8.

    Every way into a search takes ids through here: a number that int64 does not hold would
    otherwise name another item.

    Args:
        name: Of the input.
        ids: Whole numbers or strings.
        id_type: "int64" or "string".

    Raises:
        TypeError: An id is of another type.
        ValueError: An id does not fit int64, or cannot be written as UTF-8.
    """
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise TypeError(f"{name} must be a list of ids. Received: {type(ids).__name__}")
    pack_id = _pack_text if id_type == "string" else _pack_integer
    values = [pack_id(name, id_) for id_ in ids]
    return np.fromiter(values, object if id_type == "string" else np.int64, len(values))


def _pack_integer(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected whole numbers. Received: {type(value).__name__}")
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{name}: expected ids that fit int64. Received: {value}")
    return int(value)


def _pack_text(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected strings. Received: {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: expected text that is Unicode. Received: {error}") from None
