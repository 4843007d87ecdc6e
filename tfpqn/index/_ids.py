"""Ids of items: int64 or string, none twice, none of those that stand for "no item"."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index._columns import as_column, infer_type, is_text, to_arrow

IdType: TypeAlias = Literal["int64", "string"]

# Large strings: the ids of one index may exceed the 2 GiB that an array of `string` can hold.
ARROW_ID_TYPES: dict[str, pa.DataType] = {"int64": pa.int64(), "string": pa.large_string()}
# What search answers where there are fewer items than asked for.
_NO_ITEM: dict[str, int | str] = {"int64": -1, "string": ""}


def infer_id_type(ids: Any) -> IdType | None:
    """Returns the type of a column of ids, or None where it is empty and nothing tells it.

    Raises:
        TypeError: if the ids are neither integers nor strings.
    """
    if len(ids) == 0 and isinstance(ids, np.ndarray) and ids.dtype.kind in "fO":
        return "string" if ids.dtype.kind == "O" else None
    kind = infer_type(ids, "ids")
    if pa.types.is_null(kind) and len(ids) == 0:
        return None
    if pa.types.is_integer(kind):
        return "int64"
    if is_text(kind):
        return "string"
    raise TypeError(f"ids must be all integers or all strings, got values of type {kind}.")


def ids_to_arrow(ids: Any, id_type: IdType) -> pa.ChunkedArray:
    """Returns checked ids as an Arrow column of int64 or large strings.

    Raises:
        TypeError: if they are not of that type.
        ValueError: if an id is missing or stands for "no item".
    """
    column = to_arrow(ids, ARROW_ID_TYPES[id_type], "ids")
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([column])
    if column.null_count:
        raise ValueError(f"every item must have an id, got {column.null_count} missing ids.")
    reserved = _NO_ITEM[id_type]
    if pc.any(pc.equal(column, pa.scalar(reserved, column.type))).as_py():
        raise ValueError(
            f"ids must leave {reserved!r} free, which search answers for 'no item', "
            f"got an item with the id {reserved!r}."
        )
    return column


def ids_to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Returns ids `[num_items]` as int64 or as an object array of str, marked read-only."""
    if column.num_chunks == 1:
        ids = column.chunk(0).to_numpy(zero_copy_only=False)
    else:
        ids = column.to_numpy()
    ids = ids.view()
    ids.flags.writeable = False
    return ids


def convert_ids(ids: Any, id_type: IdType | None = None) -> pa.ChunkedArray:
    """Returns the ids a user gave as a checked Arrow column; `[]` counts as int64.

    Raises:
        TypeError: if they are not of `id_type`, or of no type that ids can have.
        ValueError: if an id is missing or stands for "no item".
    """
    column = as_column(ids, "ids")
    return ids_to_arrow(column, id_type or infer_id_type(column) or "int64")


def require_known(column: pa.ChunkedArray, is_known: np.ndarray) -> None:
    """Raises ValueError, naming the first unknown id, unless the index has items of all ids."""
    if not is_known.all():
        unknown = column.filter(pa.array(~is_known))
        raise ValueError(
            f"ids must be those of items in the index, got {len(unknown)} unknown ids, "
            f"the first being {unknown[0].as_py()!r}."
        )


def check_unique_ids(column: pa.ChunkedArray) -> None:
    """Raises ValueError, naming the id, if one occurs twice."""
    is_integer = pa.types.is_integer(column.type)
    double = _double_integer(column) if is_integer else _double_string(column)
    if double is not None:
        times = pc.sum(pc.equal(column, pa.scalar(double, column.type))).as_py()
        raise ValueError(f"ids must be unique, got the id {double!r} {times} times.")


def _double_integer(column: pa.ChunkedArray) -> int | str | None:
    ids = ids_to_numpy(column)
    if np.all(ids[1:] > ids[:-1]):
        return None
    ordered = np.sort(ids)
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1])
    return int(ordered[repeats[0]]) if repeats.size else None


def _double_string(column: pa.ChunkedArray) -> int | str | None:
    if len(pc.unique(column)) == len(column):
        return None
    counts = pc.value_counts(column)
    repeats = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    return str(repeats[0].as_py())
