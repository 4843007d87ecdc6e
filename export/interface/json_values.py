"""Arrays as the JSON values of TensorFlow Serving's REST interface, and back."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from .signatures import TensorInfo, numpy_dtype, to_numbers

# Programs break Base64 into lines, and TensorFlow Serving passes over that.
_WHITE_SPACE = b" \t\n\v\f\r"


def to_json(array: np.ndarray) -> Any:
    """An array as nested lists; bytes as {"b64": ...}, which any string may be written as."""
    if array.dtype != object:
        return array.tolist()
    values = np.empty(array.size, object)
    values[:] = [_encode_bytes(value) for value in array.ravel()]
    return values.reshape(array.shape).tolist()


def _encode_bytes(value: bytes) -> Any:
    return {"b64": base64.b64encode(value).decode("ascii")} if value else ""


def from_json(values: Any, info: TensorInfo) -> np.ndarray:
    """The array of nested lists, of the dtype that the signature names; strings as bytes."""
    if info.dtype == "string":
        return _read_strings(values)
    return to_numbers(values, numpy_dtype(info.dtype))


def is_bytes(value: Any) -> bool:
    """Whether a JSON value stands for bytes: {"b64": "..."}."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _read_strings(values: Any) -> np.ndarray:
    leaves = np.array(values, object)
    texts = [_read_string(leaf) for leaf in leaves.ravel()]
    return np.fromiter(texts, object, len(texts)).reshape(leaves.shape)


def _read_string(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise ValueError("must hold strings of Unicode characters. Received: others") from None
    if not is_bytes(value):
        raise ValueError(
            'must be nested lists of equal lengths, of strings or {"b64": "..."}. '
            f"Received: {type(value).__name__} values"
        )
    try:
        data = value["b64"].encode("ascii").translate(None, _WHITE_SPACE)
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        raise ValueError("must hold Base64 in 'b64'. Received: other characters") from None
