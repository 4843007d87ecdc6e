"""The Arrow schema of an index, and the values that users give as columns of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index import number_rows
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.number_rows import EMBEDDING_COLUMN, EMBEDDING_DTYPE

Column: TypeAlias = "Sequence[Any] | np.ndarray | pa.Array | pa.ChunkedArray"
Metadata: TypeAlias = "Mapping[str, Column] | pa.Table"
IdType: TypeAlias = Literal["int64", "string"]

ID_COLUMN = "id"
CODE_COLUMN = "code"
# The types in which metadata are kept, whatever their width where they come from.
_TAGS_TYPE = pa.list_(pa.string())
_METADATA_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "list<string>": _TAGS_TYPE,
}
_KINDS = "bool, int, float, str or lists of str"
# Large strings: the ids of one index may exceed the 2 GiB that an array of `string` can hold.
ID_TYPES: dict[str, pa.DataType] = {"int64": pa.int64(), "string": pa.large_string()}
# What search answers where there are fewer items than asked for.
_NO_ITEM: dict[str, int | str] = {"int64": -1, "string": ""}
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def index_schema(
    layout: CodeLayout, id_type: IdType, columns: Mapping[str, pa.DataType]
) -> pa.Schema:
    """The schema of all tables and parts of an index: id, code, then the metadata columns."""
    for name in columns:
        if not isinstance(name, str) or name in (ID_COLUMN, CODE_COLUMN, ""):
            raise ValueError(
                f"A metadata column's name must be a string other than '', {ID_COLUMN!r} and "
                f"{CODE_COLUMN!r}. Received: {name!r}"
            )
    fields = [
        pa.field(ID_COLUMN, ID_TYPES[id_type], nullable=False),
        pa.field(CODE_COLUMN, layout.arrow_type, nullable=False),
    ]
    return pa.schema([*fields, *columns.items()])


def id_type_of(ids: pa.Field | pa.ChunkedArray) -> IdType:
    """The name under which a manifest knows the type of ids."""
    return "int64" if ids.type == pa.int64() else "string"


def to_table(
    layout: CodeLayout,
    codes: Any,
    ids: Any,
    metadata: Metadata | None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """Items as a checked table, of the schema if there is one already.

    It shares the memory of arrays of the right dtype.
    """
    codes = layout.cast_codes(codes)
    known = {} if schema is None else {field.name: field.type for field in schema}
    columns = {
        name: to_column(values, name, known.get(name))
        for name, values in _by_name(metadata).items()
    }
    id_column = to_ids(ids, None if schema is None else id_type_of(schema.field(ID_COLUMN)))
    if schema is None:
        types = {name: column.type for name, column in columns.items()}
        schema = index_schema(layout, id_type_of(id_column), types)
    elif set(columns) != set(schema.names[2:]):
        raise ValueError(
            f"metadata must have the columns {schema.names[2:]}. Received: {list(columns)}"
        )
    columns |= {ID_COLUMN: id_column, CODE_COLUMN: layout.to_arrow(codes)}
    for name, column in columns.items():
        if len(column) != len(codes):
            raise ValueError(
                f"{name!r} must have one value for each of the {len(codes)} codes. "
                f"Received: {len(column)}"
            )
    return pa.table(columns, schema=schema)


def _by_name(metadata: Metadata | None) -> Mapping[str, Column]:
    if isinstance(metadata, pa.Table):
        return dict(zip(metadata.column_names, metadata.columns, strict=True))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(
            f"metadata must map column names to sequences. Received: {type(metadata).__name__}"
        )
    return metadata or {}


def to_ids(ids: Any, id_type: IdType | None = None) -> pa.ChunkedArray:
    """Ids as a checked column of int64 or large strings; `[]` counts as int64."""
    column = _infer(ids, "ids")
    if id_type is None:
        is_empty_text = len(column) == 0 and getattr(ids, "dtype", None) == np.object_
        is_text = is_empty_text or _kept_type(column.type) == pa.string()
        id_type = "string" if is_text else "int64"
    column = to_column(column, "ids", ID_TYPES[id_type])
    require_ids(column)
    return column


def require_ids(column: pa.ChunkedArray) -> None:
    """Raise a ValueError if an id is missing or stands for "no item"."""
    if column.null_count:
        raise ValueError(f"Every item must have an id. Received: {column.null_count} missing ids")
    reserved = _NO_ITEM[id_type_of(column)]
    if pc.any(pc.equal(column, pa.scalar(reserved, column.type))).as_py():
        raise ValueError(
            f"ids must leave {reserved!r} free, which search answers for 'no item'. "
            f"Received: an item with the id {reserved!r}"
        )


def require_unique(column: pa.ChunkedArray) -> None:
    """Raise a ValueError that names the id, if one occurs twice."""
    if pa.types.is_integer(column.type):
        ids = column.to_numpy()
        # Counting hashes all ids; those of most indexes simply rise.
        if np.all(ids[1:] > ids[:-1]):
            return
    counts = pc.value_counts(column)
    double = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(double):
        first = double[0].as_py()
        raise ValueError(
            f"ids must be unique. Received: the id {first['values']!r} {first['counts']} times"
        )


def to_column(values: Any, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Values as an Arrow column of a type; without it, of that in which metadata are kept."""
    if name == EMBEDDING_COLUMN and isinstance(values, np.ndarray) and values.ndim == 2:
        values = number_rows.to_arrow(number_rows.to_half(values))
    column = _infer(values, name)
    if kind is None and name == EMBEDDING_COLUMN and pa.types.is_fixed_size_binary(column.type):
        kind = column.type
    if kind is None:
        # Of a text column nothing may be known yet: all of a first batch can be missing.
        kind = pa.string() if pa.types.is_null(column.type) else _kept_type(column.type)
    if kind is None:
        raise TypeError(f"{name!r} must hold {_KINDS}. Received: {column.type}")
    if column.null_count == len(column):
        # Nothing says of what type they would be.
        return pa.chunked_array([pa.nulls(len(column), kind)])
    try:
        _require_alike(column.type, kind)
        return column.cast(kind)
    except _CONVERSION_ERRORS as error:
        # A number that is too large is of no wrong type.
        wrong = TypeError if isinstance(error, TypeError) else ValueError
        raise wrong(f"{name!r} must hold values of type {kind}. Received: {error}") from error


def _infer(values: Any, name: str) -> pa.ChunkedArray:
    """Values as an Arrow column of the type that Arrow gives them."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if not isinstance(values, (list, tuple, pa.Array)):
        values = np.atleast_1d(values)
        # Arrow knows no other byte order than the machine's, and not all strings of NumPy.
        if values.dtype.kind in "mM":
            # Else those of nanoseconds would become numbers.
            raise TypeError(f"{name!r} must hold {_KINDS}. Received: {values.dtype}")
        if values.dtype.kind not in "biufO" or not values.dtype.isnative:
            values = values.tolist()
    try:
        column = pa.array(values)
    except _CONVERSION_ERRORS as error:
        raise TypeError(f"{name!r} must hold values of one type. Received: {error}") from error
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def metadata_types(schema: pa.Schema) -> dict[str, str]:
    """Name of each metadata column -> name of its type."""
    names = {kind: name for name, kind in _METADATA_TYPES.items()}
    return {
        field.name: f"float16[{field.type.byte_width // EMBEDDING_DTYPE.itemsize}]"
        if pa.types.is_fixed_size_binary(field.type)
        else names[field.type]
        for field in list(schema)[2:]
    }


def metadata_type(name: str) -> pa.DataType:
    """The type in which metadata are kept whose type a manifest gives by name."""
    if width := re.fullmatch(r"float16\[([1-9][0-9]{0,6})\]", name):
        return pa.binary(int(width[1]) * EMBEDDING_DTYPE.itemsize)
    kind = _METADATA_TYPES.get(name) or _kept_type(pa.type_for_alias(name))
    if kind is None:
        raise ValueError(f"expected metadata of a type among {[*_METADATA_TYPES]}, not {name!r}")
    return kind


def _require_alike(given: pa.DataType, wanted: pa.DataType) -> None:
    """Arrow itself would make numbers of strings, and strings of numbers."""
    kept = _kept_type(given), _kept_type(wanted)
    if kept[0] != kept[1] and kept != (pa.int64(), pa.float64()) and not pa.types.is_null(given):
        raise TypeError(given)


def _kept_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which values of any engine's type are kept; None if they cannot be."""
    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _kept_type(kind.value_type)
    if is_a.is_list(kind) or is_a.is_large_list(kind):
        inner = kind.value_type
        return _TAGS_TYPE if is_a.is_null(inner) or _kept_type(inner) == pa.string() else None
    if is_a.is_boolean(kind):
        return pa.bool_()
    if is_a.is_integer(kind):
        return pa.int64()
    if is_a.is_floating(kind):
        return pa.float64()
    # Bytes, as which TensorFlow gives strings, must be UTF-8.
    binary = is_a.is_binary(kind) or is_a.is_large_binary(kind)
    text = is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind)
    return pa.string() if text or binary else None
