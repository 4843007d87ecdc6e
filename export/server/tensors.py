"""TensorProtos as numpy arrays and back, without TensorFlow's slower helpers.

`tf.make_ndarray` and `tf.make_tensor_proto` cost more than a small search. Answers use the typed
fields (`float_val`, `int64_val`, ...), as TensorFlow Serving does, and not `tensor_content`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from .errors import ServingError

__all__ = ["dtype_name", "read_tensor", "tensor_shape", "write_tensor"]

# Name of the dtype -> field of the proto that holds its values.
_FIELD_OF = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint8": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
}
_NAME_OF = {tf.as_dtype(name).as_datatype_enum: name for name in _FIELD_OF}
_ENUM_OF = {name: enum for enum, name in _NAME_OF.items()}
# A proto may name one value and a huge shape that it fills; so much is filled at most.
_MAX_FILLED = 2**22


def dtype_name(proto: Any) -> str:
    """Name of the proto's dtype, such as "float32"; of one that is not read here its number."""
    return _NAME_OF.get(proto.dtype) or f"data type {proto.dtype}"


def tensor_shape(proto: Any) -> tuple[int, ...]:
    """Sizes of the proto's axes.

    Raises:
        ServingError: INVALID_ARGUMENT where the rank or a size is left open.
    """
    shape = proto.tensor_shape
    sizes = tuple(axis.size for axis in shape.dim)
    if shape.unknown_rank or (sizes and min(sizes) < 0):
        raise ServingError(
            "INVALID_ARGUMENT", f"a tensor must have a whole shape. Received: {list(sizes)}"
        )
    return sizes


def read_tensor(name: str, proto: Any) -> np.ndarray:
    """The values of a proto whose dtype and shape have been checked.

    Args:
        name: The input's name, for the message.
        proto: A TensorProto of one of the dtypes that signatures of this package have.

    Returns:
        An array, perhaps read-only; strings as an object array of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT where the number of values does not fit the shape.
    """
    shape = tensor_shape(proto)
    size = 1
    for axis in shape:
        size *= axis
    dtype = _NAME_OF[proto.dtype]
    if dtype == "string":
        return _fill_strings(name, list(proto.string_val), size).reshape(shape)
    content = proto.tensor_content
    if content:
        values = _read_content(name, content, np.dtype(dtype), size)
    else:
        field = getattr(proto, _FIELD_OF[dtype])
        values = _fill(name, np.fromiter(field, _wide(dtype), len(field)), size)
        values = _narrow(name, values, dtype)
    return values.reshape(shape)


def _read_content(name: str, content: bytes, dtype: np.dtype[Any], size: int) -> np.ndarray:
    if len(content) != size * dtype.itemsize:
        raise _wrong_number(name, f"{size * dtype.itemsize} bytes", f"{len(content)} bytes")
    return np.frombuffer(content, dtype)


def _wide(dtype: str) -> type:
    """The type in which the proto's field holds the values."""
    wide: dict[str, type] = {"float32": np.float32, "float64": np.float64, "bool": np.bool_}
    return wide.get(dtype, np.int64)


def _narrow(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    narrow = values.astype(dtype, copy=False)
    if narrow is not values and not np.array_equal(narrow, values):
        raise _wrong_number(name, f"values within {dtype}", "larger ones")
    return narrow


def _fill(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """Fewer values than the shape asks for: the last one fills the rest, as TensorFlow has it."""
    missing = size - len(values)
    if missing == 0:
        return values
    _require_fillable(name, len(values), size)
    return np.concatenate([values, np.full(missing, values[-1])])


def _fill_strings(name: str, values: list[bytes], size: int) -> np.ndarray:
    if len(values) != size:
        _require_fillable(name, len(values), size)
        values += values[-1:] * (size - len(values))
    array = np.empty(size, object)
    array[:] = values
    return array


def _require_fillable(name: str, number: int, size: int) -> None:
    if not 0 < number < size <= _MAX_FILLED:
        raise _wrong_number(name, f"{size} values", f"{number} values")


def _wrong_number(name: str, expected: str, received: str) -> ServingError:
    return ServingError(
        "INVALID_ARGUMENT", f"{name} must hold {expected}, by its shape. Received: {received}"
    )


def write_tensor(array: np.ndarray, proto: Any) -> None:
    """Write an array into an empty TensorProto."""
    dtype = "string" if array.dtype == object else array.dtype.name
    field = _FIELD_OF.get(dtype)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = _ENUM_OF[dtype]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values: Iterable[Any] = array.ravel().tolist()
    getattr(proto, field).extend(values)


def make_tensor(array: np.ndarray) -> TensorProto:
    """An array as a new TensorProto."""
    proto = TensorProto()
    write_tensor(array, proto)
    return proto
