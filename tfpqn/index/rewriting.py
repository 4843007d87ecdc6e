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
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index.code_index import CodeIndex
from tfpqn.index.code_index_writer import ROWS_PER_PART, CodeIndexWriter
from tfpqn.index.manifest import Manifest, describe_index
from tfpqn.index.number_rows import EMBEDDING_COLUMN
from tfpqn.index.parts import find_ids, read_tables
from tfpqn.index.schema import ID_COLUMN, to_column, to_ids

_Path: TypeAlias = str | os.PathLike[str]


class Growth(NamedTuple):
    """The work of `update_index`.

    Attributes:
        num_added: Items that are new in the index.
        num_updated: Items that were there, and have new codes.
    """

    num_added: int
    num_updated: int


@contextlib.contextmanager
def rewriting(
    path: _Path, rows_per_part: int = ROWS_PER_PART
) -> Iterator[tuple[Manifest, CodeIndexWriter]]:
    """An index, locked from the beginning, and the writer of what takes its place."""
    layout = describe_index(path).layout
    with CodeIndexWriter(path, layout, overwrite=True, rows_per_part=rows_per_part) as writer:
        manifest = describe_index(path)  # Before the lock it may have been replaced.
        writer.layout, writer.schema = manifest.layout, manifest.schema
        yield manifest, writer


def compact_index(
    path: _Path, *, rows_per_part: int = ROWS_PER_PART, keep_full: bool = False
) -> Manifest:
    """Rewrite an index of many small parts, as many additions leave it, into few full ones.

    Contents and order stay as they are.

    Args:
        path: The folder of the index.
        rows_per_part: Most rows in one part.
        keep_full: Whether parts of so many rows, or more, stay the files that they are.

    Returns:
        The manifest of the index as it is now.
    """
    with rewriting(path, rows_per_part) as (manifest, writer):
        for part in manifest.parts:
            if keep_full and part.rows >= rows_per_part:
                writer.append_part(writer.path / part.name, part)
                continue
            for table in read_tables(writer.path, manifest, manifest.schema.names, [part]):
                writer.append_table(table)
    return writer.manifest


def remove_from_index(path: _Path, ids: Any, *, rows_per_part: int = ROWS_PER_PART) -> Manifest:
    """Rewrite the parts that hold items of these ids, without them; the others keep their order.

    Returns the manifest of the index as it is now.

    Raises:
        TypeError: The ids are not of the index's type.
        ValueError: The index has no item of an id.
    """

    def remove(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table[ID_COLUMN], value_set=gone)))

    with rewriting(path, rows_per_part) as (manifest, writer):
        gone = to_ids(ids, manifest.id_type)
        unknown = gone.filter(pc.invert(_rewrite_parts(manifest, writer, gone, remove)))
        if len(unknown):
            raise ValueError(
                f"ids must be those of items in the index. Received: {len(unknown)} unknown ids, "
                f"the first being {unknown[0].as_py()!r}"
            )
    return writer.manifest


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
        ValueError: The items are of another layout, or lack embeddings that the index has.
    """
    with rewriting(path, rows_per_part) as (manifest, writer):
        return write_update(manifest, writer, items)


def write_update(manifest: Manifest, writer: CodeIndexWriter, items: CodeIndex) -> Growth:
    """Do what `update_index` does, inside the block of a `rewriting`."""
    items.require_layout(manifest.layout)
    table, schema = items.table, manifest.schema
    if EMBEDDING_COLUMN in schema.names and EMBEDDING_COLUMN not in table.column_names:
        raise ValueError(
            "The items must have embeddings, as those of the index: old ones would stand beside "
            f"new codes. Received: items with the columns {table.column_names}"
        )
    newer = pa.table(
        {
            field.name: to_column(table[field.name], field.name, field.type)
            for field in schema
            if field.name in table.column_names
        }
    )
    is_known = _rewrite_parts(
        manifest, writer, newer[ID_COLUMN], lambda older: _updated(older, newer)
    )
    further = newer.filter(pc.invert(is_known))
    # Columns that they lack are missing values.
    whole = pa.concat_tables([schema.empty_table(), further], promote_options="default")
    writer.append_table(whole.cast(schema))
    return Growth(len(further), len(newer) - len(further))


def _rewrite_parts(
    manifest: Manifest,
    writer: CodeIndexWriter,
    ids: pa.ChunkedArray,
    change: Callable[[pa.Table], pa.Table],
) -> pa.Array:
    """Change the parts that hold some of the ids, keep the others, and say which ids are there."""
    folder, is_known = writer.path, np.zeros(len(ids), bool)
    for part in manifest.parts:
        is_here = find_ids(folder, manifest, part, ids)
        if is_here.any():
            for table in read_tables(folder, manifest, manifest.schema.names, [part]):
                writer.append_table(change(table))
        else:
            writer.append_part(folder / part.name, part)
        is_known |= is_here
    return pa.array(is_known)


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
