"""TensorProto to numpy and back, without TensorFlow's runtime.

`tf.make_ndarray` and `tf.make_tensor_proto` cost more than a small search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .messages import DATA_TYPES
from .signatures import Signature, TensorInfo, numpy_dtype, to_numbers

# Name of the dtype in signatures -> enum of the proto, its field of values.
_KINDS = {
    "float16": (DATA_TYPES["DT_HALF"], "half_val"),
    "float32": (DATA_TYPES["DT_FLOAT"], "float_val"),
    "float64": (DATA_TYPES["DT_DOUBLE"], "double_val"),
    "int8": (DATA_TYPES["DT_INT8"], "int_val"),
    "int16": (DATA_TYPES["DT_INT16"], "int_val"),
    "int32": (DATA_TYPES["DT_INT32"], "int_val"),
    "int64": (DATA_TYPES["DT_INT64"], "int64_val"),
    "uint8": (DATA_TYPES["DT_UINT8"], "int_val"),
    "uint16": (DATA_TYPES["DT_UINT16"], "int_val"),
    "uint32": (DATA_TYPES["DT_UINT32"], "uint32_val"),
    "uint64": (DATA_TYPES["DT_UINT64"], "uint64_val"),
    "bool": (DATA_TYPES["DT_BOOL"], "bool_val"),
    "string": (DATA_TYPES["DT_STRING"], "string_val"),
}
_NAME_OF = {enum: name for name, (enum, _) in _KINDS.items()}
# A proto of a few bytes may name a shape of many: what is filled up stays below this.
_MOST_FILLED_BYTES = 2**26


def write_values(array: np.ndarray, proto: Any, *, as_bytes: bool = False) -> None:
    """Write an array into an empty proto, in the field of its dtype as TensorFlow Serving does.

    With `as_bytes` numbers are written as they lie in memory, which takes a fortieth of the time:
    servers take both, and programs that read an answer by hand expect the field.
    """
    name = "string" if array.dtype == object else array.dtype.name
    proto.dtype, field = _KINDS[name]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_bytes and name != "string":
        proto.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        return
    values = array.view(np.uint16) if name == "float16" else array  # its bits as integers
    getattr(proto, field).extend(values.ravel().tolist())


def from_proto(proto: Any) -> np.ndarray:
    """The array of a proto, strings as an object array of bytes; ValueError if it holds none."""
    name = _dtype_name(proto)
    dtype = numpy_dtype(name)
    shape = tuple(axis.size for axis in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError(f"must have a whole shape. Received: {list(shape)}")
    if proto.tensor_content and name != "string":
        array = np.frombuffer(proto.tensor_content, dtype.newbyteorder("<")).astype(dtype)
    else:
        array = _fill_up(_read_values(proto, name, dtype), math.prod(shape))
    if array.size != math.prod(shape):
        raise ValueError(f"must have the values of its shape {shape}. Received: {array.size}")
    return array.reshape(shape)


def _read_values(proto: Any, name: str, dtype: np.dtype) -> np.ndarray:
    values = getattr(proto, _KINDS[name][1])
    if name == "string":
        return np.fromiter(values, object, len(values))
    if name == "float16":  # its bits as integers
        return to_numbers(np.array(values), np.dtype(np.uint16)).view(np.float16)
    # The field may be wider than the dtype.
    return to_numbers(np.array(values), dtype)


def _fill_up(values: np.ndarray, size: int) -> np.ndarray:
    """Where there are fewer values than the shape needs, the last one stands for the rest."""
    num_missing = size - len(values)
    if not 0 < num_missing * values.dtype.itemsize <= _MOST_FILLED_BYTES:
        return values
    empty: Any = b"" if values.dtype == object else 0
    last = values[-1] if len(values) else empty
    return np.concatenate([values, np.full(num_missing, last, values.dtype)])


def read_signatures(definitions: Any) -> dict[str, Signature]:
    """The signatures of a SignatureDefMap by name, without those that TensorFlow itself runs."""
    return {
        name: Signature(_read_infos(definition.inputs), _read_infos(definition.outputs))
        for name, definition in sorted(definitions.signature_def.items())
        if not name.startswith("__saved_model_")
    }


def _read_infos(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {name: _read_info(info) for name, info in sorted(infos.items())}


def _read_info(info: Any) -> TensorInfo:
    name = _dtype_name(info)
    shape = info.tensor_shape
    if shape.unknown_rank:
        return TensorInfo(name, None)
    return TensorInfo(name, tuple(dim.size if dim.size >= 0 else None for dim in shape.dim))


def _dtype_name(proto: Any) -> str:
    return _NAME_OF.get(proto.dtype, f"data type {proto.dtype}")
