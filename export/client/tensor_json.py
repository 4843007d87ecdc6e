"""Arrays as the JSON values of TensorFlow Serving's REST interface, and back."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ..interface.signatures import TensorInfo, numpy_dtype

# What numpy makes of a JSON list, by the kind of the dtype that is expected.
_KINDS_OF_JSON = {"f": "fiu", "i": "i", "u": "iu", "b": "b"}


def to_values(array: np.ndarray) -> Any:
    """An array as nested lists; bytes as {"b64": ...}, which any string may be written as."""
    if array.dtype != object:
        return array.tolist()
    values = np.empty(array.size, object)
    values[:] = [_encode_bytes(value) for value in array.flat]
    return values.reshape(array.shape).tolist()


def _encode_bytes(value: bytes) -> Any:
    return {"b64": base64.b64encode(value).decode("ascii")} if value else ""


def from_values(values: Any, info: TensorInfo) -> np.ndarray:
    """The array of nested lists, of the dtype that the signature names.

    Raises:
        ValueError: The values are of another kind, out of range, or in lists of unequal length.
    """
    dtype = numpy_dtype(info.dtype)
    array = _read_strings(values) if info.dtype == "string" else _read_numbers(values, dtype)
    if array.size == 0 and info.shape is not None and array.ndim < len(info.shape):
        array = array.reshape([0, *(size or 0 for size in info.shape[1:])])
    return array


def _read_numbers(values: Any, dtype: np.dtype) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(dtype)
    if array.dtype.kind not in _KINDS_OF_JSON[dtype.kind]:
        raise ValueError(f"The values must be {dtype}. Received: {array.dtype} values")
    if dtype.kind in "iu" and not _fits(array, dtype):
        raise ValueError(f"The values must fit {dtype}. Received: larger ones")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _fits(array: np.ndarray, dtype: np.dtype) -> bool:
    bounds = np.iinfo(dtype)
    return bounds.min <= int(array.min()) and int(array.max()) <= bounds.max


def _read_strings(values: Any) -> np.ndarray:
    shape = _shape_of(values)
    flat = values
    for _ in shape[1:]:
        flat = [value for row in flat for value in _require_list(row)]
    texts = [_decode_text(value) for value in (flat if shape else [values])]
    array = np.fromiter(texts, object, len(texts))
    return array.reshape(shape)


def _shape_of(values: Any) -> list[int]:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return shape


def _require_list(row: Any) -> list[Any]:
    if not isinstance(row, list):
        raise ValueError(
            f"The values must be lists of equal depth. Received: {type(row).__name__} among lists"
        )
    return row


def _decode_text(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and isinstance(value.get("b64"), str) and len(value) == 1:
        return base64.b64decode(value["b64"], validate=True)
    raise ValueError(f"The values must be strings. Received: {type(value).__name__}")
