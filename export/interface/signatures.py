"""What a model's signatures take and give, without TensorFlow's runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
# Of the tensors that are sent.
DTYPES = frozenset(
    ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
    + ("uint8", "uint16", "uint32", "uint64", "bool", "string")
)

# What numpy makes of numbers, by the kind of the dtype that they shall have.
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_NAMES = {"U": "text", "O": "mixed or larger values"}


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
        raise ValueError(f"must have one of the dtypes {sorted(DTYPES)}. Received: {name}")
    return np.dtype(object if name == "string" else name)


def require_signature(name: str, signatures: Mapping[str, Any]) -> None:
    """Raises ValueError unless there is a signature of this name."""
    if name not in signatures:
        raise ValueError(
            f"The signature is unknown. Expected one of {sorted(signatures)}. "
            f"Received: signature_name={name!r}"
        )


def read_inputs(
    name: str,
    signature: Signature,
    values: Mapping[str, Any],
    read: Callable[[Any, TensorInfo], np.ndarray],
) -> Arrays:
    """Arrays of all inputs of a signature; an error of `read` is raised with the input's name."""
    require_inputs(name, signature.inputs, values)
    arrays = {}
    for key, info in signature.inputs.items():
        with naming(key):
            arrays[key] = read(values[key], info)
    return arrays


def require_inputs(name: str, inputs: Iterable[str], values: Iterable[str]) -> None:
    """Raises ValueError unless the names of the values are those of a signature's inputs."""
    if {*inputs} != {*values}:
        raise ValueError(
            f"The inputs of signature {name!r} must be {sorted(inputs)}. "
            f"Received: {sorted(values)[:10]}"
        )


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Raises TypeError and ValueError of the block with the name of the input that they tell of."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"The input {key!r} {error}") from None
    except ValueError as error:
        raise ValueError(f"The input {key!r} {error}") from None


def to_array(value: Any, info: TensorInfo) -> np.ndarray:
    """A value as an array of a signature's dtype; lists are converted, arrays are not."""
    if info.dtype == "string":
        return _to_strings(np.asarray(value, object))
    dtype = numpy_dtype(info.dtype)
    if isinstance(value, np.ndarray) and value.dtype != dtype:
        raise _wrong_dtype(dtype, value.dtype)
    return to_numbers(value, dtype)


def to_numbers(values: Any, dtype: np.dtype) -> np.ndarray:
    """Numbers as an array of a dtype, unless one of them would become another."""
    try:
        array = np.asarray(values)
    except (OverflowError, ValueError):
        raise ValueError(
            f"must be nested lists of equal lengths, of values that fit {dtype}. Received: others"
        ) from None
    if array.dtype == dtype or not array.size:
        return array.astype(dtype, copy=False)
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise _wrong_dtype(dtype, _NAMES.get(array.dtype.kind, array.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(dtype)
    # What does not fit becomes infinity, or another whole number.
    same = np.isfinite(result) == np.isfinite(array) if dtype.kind == "f" else result == array
    if not same.all():
        raise ValueError(f"must hold values that fit {dtype}. Received: larger ones")
    return result


def _to_strings(array: np.ndarray) -> np.ndarray:
    values = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    for value in values:
        if not isinstance(value, bytes):
            raise _wrong_dtype("string", type(value).__name__)
    return np.fromiter(values, object, len(values)).reshape(array.shape)


def _wrong_dtype(expected: Any, received: Any) -> TypeError:
    return TypeError(f"has a wrong dtype. Expected {expected}. Received: {received}")


def require_shape(shape: tuple[int, ...], info: TensorInfo) -> None:
    """Raises ValueError unless a shape is as the signature says."""
    wanted = info.shape
    if wanted is None:
        return
    pairs = zip(shape, wanted, strict=False)
    if len(shape) != len(wanted) or any(want not in (None, size) for size, want in pairs):
        words = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(f"must have shape [{words}]. Received: {list(shape)}")
