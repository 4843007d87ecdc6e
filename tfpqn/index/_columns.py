"""Columns of an index as users give them (lists, arrays, Arrow columns) made Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Column: TypeAlias = "Sequence[Any] | np.ndarray | pa.Array | pa.ChunkedArray"
Metadata: TypeAlias = "Mapping[str, Column] | pa.Table"

ID_COLUMN = "id"
CODE_COLUMN = "code"
TAGS_TYPE = pa.list_(pa.string())

_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def as_column(values: Any, name: str) -> Any:
    """Returns `values` as a list, tuple, one-dimensional numpy array or Arrow column.

    Raises:
        TypeError: if it is not a sequence with one value for each row.
    """
    if isinstance(values, (list, tuple, pa.Array, pa.ChunkedArray)):
        return values
    array = np.asarray(values)
    if array.ndim != 1:
        raise TypeError(
            f"{name} must be a sequence with one value for each row, "
            f"got {type(values).__name__} of shape {list(array.shape)}."
        )
    # Arrow knows no other byte order than the machine's.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def slice_column(values: Any, rows: slice) -> Any:
    """Returns some rows; of a numpy array a copy, so that its owner may write into it again."""
    part = values[rows]
    return part.copy() if isinstance(part, np.ndarray) else part


def infer_type(values: Any, name: str) -> pa.DataType:
    """Returns the Arrow type of a whole column; `pa.null()` where nothing tells it.

    Raises:
        TypeError: if the values are not of one type.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.type
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return pa.from_numpy_dtype(values.dtype)
    if isinstance(values, np.ndarray) and values.dtype.kind in "UST":
        return pa.string()
    try:
        return pa.infer_type(values)
    except _CONVERSION_ERRORS as error:
        raise TypeError(f"{name} must hold values of one type, got a mixture: {error}") from error


def to_arrow(values: Any, kind: pa.DataType, name: str) -> pa.Array | pa.ChunkedArray:
    """Returns the column as Arrow values of type `kind`.

    Raises:
        TypeError: if a value does not fit the type.
    """
    given = infer_type(values, name)
    if not _fits(given, kind):
        # Arrow itself would cut 1.5 to 1 and take "ab" for the list of its letters.
        raise TypeError(
            f"{name} must hold values of type {type_name(kind)}, got {type_name(given)}."
        )
    try:
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            return values if values.type == kind else values.cast(kind)
        if isinstance(values, np.ndarray) and values.dtype.kind not in "biufO":
            values = values.tolist()
        return pa.array(values, type=kind)
    except _CONVERSION_ERRORS as error:
        raise TypeError(
            f"{name} must hold values of type {type_name(kind)}, got others: {error}"
        ) from error


def type_name(kind: pa.DataType) -> str:
    """Returns the name under which a manifest and an error know a column type."""
    known = _normal_type(kind)
    if known == TAGS_TYPE:
        return "list<string>"
    return str(kind if known is None else known)


def type_named(name: str) -> pa.DataType:
    """Returns the column type of a name that `type_name` gave.

    Raises:
        ValueError: if there is no such type.
    """
    return TAGS_TYPE if name == "list<string>" else pa.type_for_alias(name)


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(given):
        return True
    known = _normal_type(given)
    if known is None or pa.types.is_integer(wanted):
        return known is not None and pa.types.is_integer(known)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(known) or pa.types.is_integer(known)
    return known == _normal_type(wanted)


def metadata_type(kind: pa.DataType, name: str) -> pa.DataType:
    """Returns the type in which a metadata column is kept.

    Raises:
        TypeError: if it is none of bool, integer, float, string and list of strings.
    """
    known = _normal_type(kind)
    if known is None:
        raise TypeError(
            f"metadata column {name!r} must hold bool, int, float, str or lists of str, "
            f"got {'only missing values' if pa.types.is_null(kind) else kind}."
        )
    return known


def _normal_type(kind: pa.DataType) -> pa.DataType | None:
    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _normal_type(kind.value_type)
    if is_a.is_float16(kind):
        return pa.float32()
    if is_a.is_boolean(kind) or is_a.is_integer(kind) or is_a.is_floating(kind):
        return kind
    if is_text(kind):
        return pa.string()
    if is_a.is_list(kind) or is_a.is_large_list(kind):
        inner = kind.value_type
        return TAGS_TYPE if is_text(inner) or is_a.is_null(inner) else None
    return None


def is_text(kind: pa.DataType) -> bool:
    """True for strings, and for bytes, as which TensorFlow gives strings: they must be UTF-8."""
    is_a = pa.types
    text = is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind)
    return text or is_a.is_binary(kind) or is_a.is_large_binary(kind)


def metadata_columns(metadata: Metadata | None, num_rows: int) -> dict[str, Any]:
    """Returns the metadata as columns by name, each with `num_rows` values.

    Raises:
        TypeError: if the metadata or a column is not of a known kind.
        ValueError: if a name is taken or a column has another number of values.
    """
    if isinstance(metadata, pa.Table):
        metadata = dict(zip(metadata.column_names, metadata.columns, strict=True))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(
            f"metadata must map column names to sequences, got {type(metadata).__name__}."
        )
    columns = {}
    for name, values in (metadata or {}).items():
        if not isinstance(name, str) or name in (ID_COLUMN, CODE_COLUMN, ""):
            raise ValueError(
                f"a metadata column's name must be a string other than '', {ID_COLUMN!r} and "
                f"{CODE_COLUMN!r}, got {name!r}."
            )
        columns[name] = as_column(values, f"metadata column {name!r}")
        if len(columns[name]) != num_rows:
            raise ValueError(
                f"metadata column {name!r} must have one value for each of the {num_rows} rows, "
                f"got {len(columns[name])}."
            )
    return columns


def metadata_table(
    metadata: Metadata | None, num_rows: int, known_kinds: Mapping[str, pa.DataType] | None = None
) -> pa.Table:
    """Returns the metadata as an Arrow table.

    Types that are not known are inferred; where there is nothing to infer from, it is string.

    Raises:
        TypeError: if values are not of one type, or not of the known one.
        ValueError: if a name is taken or a column has another number of values.
    """
    columns = {}
    for name, values in metadata_columns(metadata, num_rows).items():
        kind = (known_kinds or {}).get(name) or infer_type(values, f"metadata column {name!r}")
        if pa.types.is_null(kind) and num_rows == 0:
            kind = pa.string()
        columns[name] = to_arrow(values, metadata_type(kind, name), f"metadata column {name!r}")
    return pa.table(columns)
