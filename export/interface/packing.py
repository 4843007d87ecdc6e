"""Ids of items as the input of a signature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def pack_ids(name: str, ids: Iterable[Any], id_type: str) -> np.ndarray:
    """Ids, "int64" or "string", as an array `[batch]` for the input of this name; text as UTF-8.

    Every way into a search takes ids through here: a number that int64 does not hold would
    otherwise name another item.
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
