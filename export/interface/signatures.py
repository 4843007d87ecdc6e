"""What a model's signatures take and give, without TensorFlow's runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
# Of the tensors that are sent.
DTYPES = frozenset(
    ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
    + ("uint8", "uint16", "uint32", "uint64", "bool", "string")
)


class TensorInfo(NamedTuple):
    """What a signature promises of one tensor.

    Attributes:
        dtype: name of the dtype, such as "float32" or "string".
        shape: sizes, None where open; None in place of the tuple where even the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
    """Inputs and outputs of one signature by their public names."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


def numpy_dtype(name: str) -> np.dtype:
    """The array dtype of a signature's dtype; strings are object arrays of bytes."""
    if name not in DTYPES:
        raise ValueError(f"The dtype must be one of {sorted(DTYPES)}. Received: {name}")
    return np.dtype(object if name == "string" else name)


def prepare_inputs(
    signatures: Mapping[str, Signature], signature_name: str, inputs: Mapping[str, Any]
) -> Arrays:
    """Check names and dtypes of the inputs and make arrays of them, see `ServedModel.run`."""
    if signature_name not in signatures:
        raise ValueError(
            f"The signature is unknown. Expected one of {sorted(signatures)}. "
            f"Received: signature_name={signature_name!r}"
        )
    expected = signatures[signature_name].inputs
    if set(expected) != set(inputs):
        raise ValueError(
            f"The inputs of signature {signature_name!r} do not match. Expected the names "
            f"{sorted(expected)}. Received: {sorted(inputs)}"
        )
    return {name: _prepare_input(name, info, inputs[name]) for name, info in expected.items()}


def _prepare_input(name: str, info: TensorInfo, value: Any) -> np.ndarray:
    """Make one input an array of the signature's dtype; lists are converted, arrays are not."""
    dtype = numpy_dtype(info.dtype)
    array = value if isinstance(value, np.ndarray) else _to_dtype(value, dtype)
    if info.dtype == "string":
        values = [item.encode() if isinstance(item, str) else item for item in array.flat]
        if all(isinstance(item, bytes) for item in values):
            return np.array(values, object).reshape(array.shape)
    elif array.dtype == dtype:
        return array
    raise TypeError(
        f"The input {name!r} has a wrong dtype. Expected {info.dtype}. Received: {array.dtype}"
    )


def _to_dtype(value: Any, dtype: np.dtype) -> np.ndarray:
    """Lists as an array of a dtype; as one of their own where whole numbers would become others."""
    if dtype.kind not in "iu":
        return np.asarray(value, dtype)
    given = np.asarray(value)
    if given.size and (given.dtype.kind not in "iu" or np.any(given.astype(dtype) != given)):
        return given
    return given.astype(dtype)
