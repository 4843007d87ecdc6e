"""TensorProto to numpy and back, without TensorFlow's runtime.

`tf.make_ndarray` and `tf.make_tensor_proto` cost more than a small search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .messages import DATA_TYPES, TensorProto
from .signatures import Signature, TensorInfo, numpy_dtype

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


def to_proto(array: np.ndarray) -> Any:
    """An array as a proto; object arrays hold bytes."""
    name = "string" if array.dtype == object else array.dtype.name
    proto = TensorProto(dtype=_KINDS[name][0])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if name == "string":
        proto.string_val.extend(array.flat)
    else:
        proto.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return proto


def write_values(array: np.ndarray, proto: Any) -> None:
    """Write an array into an empty proto, in the field of its dtype as TensorFlow Serving does."""
    name = "string" if array.dtype == object else array.dtype.name
    proto.dtype, field = _KINDS[name]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values = array.view(np.uint16) if name == "float16" else array  # its bits as integers
    getattr(proto, field).extend(values.ravel().tolist())


def dtype_name(proto: Any) -> str:
    """Name of a proto's dtype, such as "float32"."""
    return _NAME_OF.get(proto.dtype, f"data type {proto.dtype}")


def tensor_shape(proto: Any) -> tuple[int, ...]:
    """Sizes of a proto's axes; ValueError if the rank or a size is left open."""
    sizes = tuple(axis.size for axis in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise ValueError(f"A tensor must have a whole shape. Received: {list(sizes)}")
    return sizes


def from_proto(proto: Any) -> np.ndarray:
    """The array of a proto, strings as an object array of bytes; ValueError if it holds none."""
    name = dtype_name(proto)
    numpy_dtype(name)
    shape = tensor_shape(proto)
    values = _read_values(proto, name)
    if not proto.tensor_content:
        values = _fill_up(values, shape)
    if len(values) != math.prod(shape):
        raise _misfit(values, shape)
    return values.reshape(shape)


def _read_values(proto: Any, name: str) -> np.ndarray:
    dtype = numpy_dtype(name)
    if proto.tensor_content and name != "string":
        return np.frombuffer(proto.tensor_content, dtype.newbyteorder("<")).astype(dtype)
    values = getattr(proto, _KINDS[name][1])
    if name == "string":
        return np.fromiter(values, object, len(values))
    if name == "float16":  # its bits as integers
        return np.array(values, np.uint16).view(np.float16)
    # The field may be wider than the dtype.
    wide = np.array(values, None if values else dtype)
    array = wide.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(array, wide):
        raise ValueError(f"The values of a tensor must fit {name}. Received: larger ones")
    return array


def _fill_up(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where there are fewer values than the shape needs, the last one stands for the rest."""
    num_missing = math.prod(shape) - len(values)
    if num_missing <= 0:
        return values
    if num_missing * values.dtype.itemsize > _MOST_FILLED_BYTES:
        raise _misfit(values, shape)
    empty: Any = b"" if values.dtype == object else values.dtype.type(0)
    last = values[-1] if len(values) else empty
    return np.concatenate([values, np.full(num_missing, last, values.dtype)])


def _misfit(values: np.ndarray, shape: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"The values of a tensor must fit its shape {shape}. Received: {len(values)} values"
    )


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
    name = dtype_name(info)
    shape = info.tensor_shape
    if shape.unknown_rank:
        return TensorInfo(name, None)
    return TensorInfo(name, tuple(dim.size if dim.size >= 0 else None for dim in shape.dim))
