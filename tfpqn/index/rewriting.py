"""Changing an index on disk in one step; parts that hold nothing of a change are not read.

Each function takes the folder of an index and the most rows that one part of it may have. Memory
does not grow with the index. There is one writer at a time: another is refused with a
BlockingIOError that names the index. Readers get the former index or the new one; where a change
fails, since a part is missing, torn or foreign for instance, the index is as it was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.files.foreign import require_within
from tfpqn.index.code_index import CodeIndex
from tfpqn.index.manifest import Manifest, Part, describe_index
from tfpqn.index.part_writer import ROWS_PER_PART, PartWriter, locked_index, writing_parts
from tfpqn.index.parts import read_all_tables, read_tables, require_parts
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, require_known, to_column, to_ids

_Path: TypeAlias = str | os.PathLike[str]


class Growth(NamedTuple):
    """The work of `update_index`.

    Attributes:
        num_added: Items that are new in the index.
        num_updated: Items that were there, and have new codes.
    """

    num_added: int
    num_updated: int


def compact_index(path: _Path, *, rows_per_part: int = ROWS_PER_PART) -> Manifest:
    """Rewrite an index of many small parts, as many additions leave it, into few full ones.

    Contents and order stay as they are.

    Returns:
        The manifest of the index as it is now.
    """
    with locked_index(path):
        with _rewriting(path, rows_per_part) as (manifest, parts):
            for table in read_all_tables(Path(path), manifest, manifest.schema.names):
                parts.add(table)
        return describe_index(path)


def remove_from_index(path: _Path, ids: Any, *, rows_per_part: int = ROWS_PER_PART) -> Manifest:
    """Rewrite the parts that hold items of these ids, without them; the others keep their order.

    Returns:
        The manifest of the index as it is now.

    Raises:
        TypeError: The ids are not of the index's type.
        ValueError: The index has no item of an id.
    """

    def remove(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table[ID_COLUMN], value_set=gone)))

    with locked_index(path):
        with _rewriting(path, rows_per_part) as (manifest, parts):
            gone = to_ids(ids, manifest.id_type)
            require_known(gone, _rewrite_parts(Path(path), manifest, parts, gone, remove))
        return describe_index(path)


def update_index(path: _Path, items: CodeIndex, *, rows_per_part: int = ROWS_PER_PART) -> Growth:
    """Give known ids new codes and metadata, in place, and add further items in parts of their own.

    Parts without known ids stay as they are: adding costs what is added. The index keeps its
    columns: one that `items` lacks stays as it is for known ids and is missing for further ones;
    one that only `items` has is left out.

    Args:
        path: The folder of the index.
        items: Known items, and further ones, which come last in their own order.
        rows_per_part: Most rows in one part.

    Raises:
        TypeError: Ids or metadata are not of the index's types.
        ValueError: The items are of another layout.
    """
    with locked_index(path):
        return update_locked(path, items, rows_per_part)


def update_locked(path: _Path, items: CodeIndex, rows_per_part: int = ROWS_PER_PART) -> Growth:
    """Does what `update_index` does, for a caller that holds the lock of the index."""
    with _rewriting(path, rows_per_part) as (manifest, parts):
        items.require_layout(manifest.layout)
        newer = _like(items.table, manifest.schema)
        is_known = _rewrite_parts(
            Path(path), manifest, parts, newer[ID_COLUMN], lambda older: _updated(older, newer)
        )
        further = newer.filter(pa.array(~is_known))
        columns = [
            further[field.name]
            if field.name in newer.column_names
            else pa.nulls(len(further), field.type)
            for field in manifest.schema
        ]
        parts.add(pa.table(columns, schema=manifest.schema))
    return Growth(int((~is_known).sum()), int(is_known.sum()))


@contextlib.contextmanager
def _rewriting(path: _Path, rows_per_part: int) -> Iterator[tuple[Manifest, PartWriter]]:
    """The manifest of an index, and what takes its place; the caller holds the lock."""
    manifest = describe_index(path)
    with writing_parts(
        Path(path), manifest.layout, manifest.schema, rows_per_part, overwrite=True
    ) as parts:
        yield manifest, parts


def _rewrite_parts(
    folder: Path,
    manifest: Manifest,
    parts: PartWriter,
    ids: pa.ChunkedArray,
    change: Callable[[pa.Table], pa.Table],
) -> np.ndarray:
    """Change the parts that hold some of the ids, keep the others, and say which ids are there.

    Returns:
        bool `[num_ids]`.
    """
    require_parts(folder, manifest)
    is_known = np.zeros(len(ids), bool)
    for part in manifest.parts:
        is_here = _find_ids(folder, manifest, part, ids)
        is_known |= is_here
        if is_here.any():
            for table in read_tables(folder, part, manifest, manifest.schema.names):
                parts.add(change(table))
        else:
            require_within(folder / part.name, folder)
            parts.keep(folder / part.name, part)
    return is_known


def _find_ids(folder: Path, manifest: Manifest, part: Part, ids: pa.ChunkedArray) -> np.ndarray:
    """Which of the ids a part holds, bool `[num_ids]`."""
    is_here = np.zeros(len(ids), bool)
    if part.may_hold(ids):
        for table in read_tables(folder, part, manifest, [ID_COLUMN]):
            is_here |= pc.is_in(ids, value_set=table[ID_COLUMN]).to_numpy()
    return is_here


def _like(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of items that an index of the schema has, in its types."""
    columns = {
        ID_COLUMN: to_column(table[ID_COLUMN], "ids", schema.field(ID_COLUMN).type),
        CODE_COLUMN: table[CODE_COLUMN],
    }
    for field in list(schema)[2:]:
        if field.name in table.column_names:
            name = f"metadata column {field.name!r}"
            columns[field.name] = to_column(table[field.name], name, field.type)
    return pa.table(columns)


def _updated(older: pa.Table, newer: pa.Table) -> pa.Table:
    """Rows of an index with the codes, and the metadata if there are some, of the newer ones."""
    places = pc.index_in(older[ID_COLUMN], value_set=newer[ID_COLUMN]).combine_chunks()
    kept = pa.array(np.arange(len(older)))
    rows = pc.coalesce(pc.add(places.cast(pa.int64()), len(older)), kept)
    columns = [
        pa.chunked_array([*older[name].chunks, *newer[name].chunks], older[name].type).take(rows)
        if name in newer.column_names
        else older[name]
        for name in older.column_names
    ]
    return pa.table(columns, schema=older.schema)
