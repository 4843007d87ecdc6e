"""The Arrow schema of an index, and the values that users give as columns of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index.code_layout import CodeLayout

Column: TypeAlias = "Sequence[Any] | np.ndarray | pa.Array | pa.ChunkedArray"
Metadata: TypeAlias = "Mapping[str, Column] | pa.Table"
IdType: TypeAlias = Literal["int64", "string"]

ID_COLUMN = "id"
CODE_COLUMN = "code"
TAGS_TYPE = pa.list_(pa.string())
# Large strings: the ids of one index may exceed the 2 GiB that an array of `string` can hold.
ID_TYPES: dict[str, pa.DataType] = {"int64": pa.int64(), "string": pa.large_string()}
# What search answers where there are fewer items than asked for.
_NO_ITEM: dict[str, int | str] = {"int64": -1, "string": ""}
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def index_schema(
    layout: CodeLayout, id_type: IdType, columns: Mapping[str, pa.DataType]
) -> pa.Schema:
    """The schema of all tables and parts of an index: id, code, then the metadata columns."""
    fields = [
        pa.field(ID_COLUMN, ID_TYPES[id_type], nullable=False),
        pa.field(CODE_COLUMN, layout.arrow_type, nullable=False),
    ]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in columns.items())])


def id_type_of(schema: pa.Schema) -> IdType:
    """The type of ids in an index of this schema."""
    return "int64" if schema.field(ID_COLUMN).type == pa.int64() else "string"


def to_table(
    layout: CodeLayout,
    codes: Any,
    ids: Any,
    metadata: Metadata | None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """Items as a checked table that shares the memory of arrays of the right dtype.

    Args:
        layout: What the codes look like.
        codes: Integers `[rows, code_length]`.
        ids: `[rows]`, integers or strings.
        metadata: Values `[rows]` by column name.
        schema: Types and columns to keep to; those of the values themselves if None.

    Raises:
        TypeError: Values are of a wrong type.
        ValueError: Shapes, ranges or columns are wrong.
    """
    codes = layout.cast_codes(codes)
    id_column = to_ids(ids, None if schema is None else id_type_of(schema))
    if len(id_column) != len(codes):
        raise ValueError(
            f"ids must be one for each of the {len(codes)} codes. Received: {len(id_column)}"
        )
    kinds = {} if schema is None else {field.name: field.type for field in list(schema)[2:]}
    columns = _to_columns(metadata, len(codes), kinds)
    if schema is None:
        id_type: IdType = "int64" if id_column.type == pa.int64() else "string"
        schema = index_schema(layout, id_type, {name: c.type for name, c in columns.items()})
    elif set(columns) != set(kinds):
        raise ValueError(
            f"metadata must have the columns {schema.names[2:]}. Received: {list(columns)}"
        )
    ordered = [columns[name] for name in schema.names[2:]]
    return pa.table([id_column, layout.to_arrow(codes), *ordered], schema=schema)


def to_ids(ids: Any, id_type: IdType | None = None) -> pa.ChunkedArray:
    """Ids as a checked column of int64 or large strings; `[]` counts as int64.

    Raises:
        TypeError: They are not of `id_type`, or of no type that ids can have.
        ValueError: An id is missing or stands for "no item".
    """
    column = _infer(ids, "ids")
    known = id_type or _infer_id_type(column, getattr(ids, "dtype", None))
    column = to_column(column, "ids", ID_TYPES[known])
    if column.null_count:
        raise ValueError(f"Every item must have an id. Received: {column.null_count} missing ids")
    reserved = _NO_ITEM[known]
    if pc.any(pc.equal(column, pa.scalar(reserved, column.type))).as_py():
        raise ValueError(
            f"ids must leave {reserved!r} free, which search answers for 'no item'. "
            f"Received: an item with the id {reserved!r}"
        )
    return column


def _infer_id_type(column: pa.ChunkedArray, dtype: Any) -> IdType:
    if _is_text(column.type) or len(column) == 0 and dtype == np.object_:
        return "string"
    if pa.types.is_integer(column.type) or len(column) == 0:
        return "int64"
    raise TypeError(f"ids must be all integers or all strings. Received: {column.type}")


def ids_to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Ids `[num_items]` as int64 or as an object array of str, marked read-only."""
    one_chunk = column.num_chunks == 1
    ids = column.chunk(0).to_numpy(zero_copy_only=False) if one_chunk else column.to_numpy()
    ids = ids.view()
    ids.flags.writeable = False
    return ids


def require_known(column: pa.ChunkedArray, is_known: np.ndarray) -> None:
    """Raise a ValueError that names the first id of which the index has no item."""
    if not is_known.all():
        unknown = column.filter(pa.array(~is_known))
        raise ValueError(
            f"ids must be those of items in the index. Received: {len(unknown)} unknown ids, "
            f"the first being {unknown[0].as_py()!r}"
        )


def require_unique(column: pa.ChunkedArray) -> None:
    """Raise a ValueError that names the id, if one occurs twice."""
    if pa.types.is_integer(column.type):
        ids = ids_to_numpy(column)
        # Counting hashes all ids; those of most indexes simply rise.
        if np.all(ids[1:] > ids[:-1]):
            return
    if len(pc.unique(column)) == len(column):
        return
    counts = pc.value_counts(column)
    double = counts.filter(pc.greater(counts.field("counts"), 1))[0].as_py()
    raise ValueError(
        f"ids must be unique. Received: the id {double['values']!r} {double['counts']} times"
    )


def to_column(values: Any, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Values as an Arrow column of a type; without it, of that in which metadata are kept.

    Raises:
        TypeError: The values are of no such type.
    """
    column = _infer(values, name)
    if kind is None:
        is_open = pa.types.is_null(column.type) and not len(column)
        kind = pa.string() if is_open else metadata_type(column.type, name)
    try:
        if not _fits(column.type, kind):
            raise TypeError(type_name(column.type))
        return column.cast(kind)
    except _CONVERSION_ERRORS as error:
        raise TypeError(
            f"{name} must hold values of type {type_name(kind)}. Received: {error}"
        ) from error


def _infer(values: Any, name: str) -> pa.ChunkedArray:
    """Values as an Arrow column of the type that Arrow gives them."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if not isinstance(values, (list, tuple, pa.Array)):
        values = np.asarray(values)
        if values.ndim != 1:
            raise TypeError(
                f"{name} must be a sequence with one value for each row. "
                f"Received: an array of shape {list(values.shape)}"
            )
        # Arrow knows no other byte order than the machine's, and not all strings of NumPy.
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        values = values if values.dtype.kind in "biufO" else values.tolist()
    try:
        column = pa.array(values)
    except _CONVERSION_ERRORS as error:
        raise TypeError(f"{name} must hold values of one type. Received: {error}") from error
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _to_columns(
    metadata: Metadata | None, num_rows: int, kinds: Mapping[str, pa.DataType]
) -> dict[str, pa.ChunkedArray]:
    """The metadata as columns by name, each of `num_rows` values and of its known type."""
    if isinstance(metadata, pa.Table):
        metadata = dict(zip(metadata.column_names, metadata.columns, strict=True))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(
            f"metadata must map column names to sequences. Received: {type(metadata).__name__}"
        )
    columns = {}
    for name, values in (metadata or {}).items():
        if not isinstance(name, str) or name in (ID_COLUMN, CODE_COLUMN, ""):
            raise ValueError(
                f"A metadata column's name must be a string other than '', {ID_COLUMN!r} and "
                f"{CODE_COLUMN!r}. Received: {name!r}"
            )
        column = to_column(values, f"metadata column {name!r}", kinds.get(name))
        if len(column) != num_rows:
            raise ValueError(
                f"metadata column {name!r} must have one value for each of the {num_rows} rows. "
                f"Received: {len(column)}"
            )
        columns[name] = column
    return columns


def metadata_type(kind: pa.DataType, name: str) -> pa.DataType:
    """The type in which a metadata column is kept.

    Raises:
        TypeError: It is none of bool, integer, float, string and list of strings.
    """
    known = _normal_type(kind)
    if known is None:
        raise TypeError(
            f"{name} must hold bool, int, float, str or lists of str. "
            f"Received: {'only missing values' if pa.types.is_null(kind) else kind}"
        )
    return known


def type_name(kind: pa.DataType) -> str:
    """The name under which a manifest and an error know a column type."""
    known = _normal_type(kind)
    return "list<string>" if known == TAGS_TYPE else str(known or kind)


def type_named(name: str) -> pa.DataType:
    """The column type of a name that `type_name` gave.

    Raises:
        ValueError: There is no such type.
    """
    return TAGS_TYPE if name == "list<string>" else pa.type_for_alias(name)


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Arrow itself would cut 1.5 to 1 and take "ab" for the list of its letters."""
    if pa.types.is_null(given):
        return True
    is_integer, is_float = pa.types.is_integer, pa.types.is_floating
    known, wanted = _normal_type(given), _normal_type(wanted)
    if known is None or wanted is None or known == wanted:
        return known is not None
    return (
        is_integer(known)
        and is_integer(wanted)
        or (is_float(wanted) and (is_float(known) or is_integer(known)))
    )


def _normal_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which values of any engine's type are kept; None if they cannot be."""
    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _normal_type(kind.value_type)
    if is_a.is_float16(kind):
        return pa.float32()
    if is_a.is_boolean(kind) or is_a.is_integer(kind) or is_a.is_floating(kind):
        return kind
    if _is_text(kind):
        return pa.string()
    if is_a.is_list(kind) or is_a.is_large_list(kind):
        inner = kind.value_type
        return TAGS_TYPE if is_a.is_null(inner) or _normal_type(inner) == pa.string() else None
    return None


def _is_text(kind: pa.DataType) -> bool:
    """True for strings, and for bytes, as which TensorFlow gives strings: they must be UTF-8."""
    is_a = pa.types
    text = is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind)
    return text or is_a.is_binary(kind) or is_a.is_large_binary(kind)
