"""Changing an index on disk in one step; parts that hold nothing of a change are not read.

Memory does not grow with the index, but for the ids where two items might have the same. There is
one writer at a time: another is refused with a BlockingIOError that names the index. Readers get
the former index or the new one.
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
from tfpqn.index.code_index_writer import CodeIndexWriter, locked_index
from tfpqn.index.manifest import Manifest, Part, read_manifest
from tfpqn.index.parts import read_tables, require_parts
from tfpqn.index.reading import IndexReport, describe_index, read_all_tables, read_one_state
from tfpqn.index.schema import (
    CODE_COLUMN,
    ID_COLUMN,
    ID_TYPES,
    require_known,
    require_unique,
    to_column,
    to_ids,
)

ROWS_PER_PART = 1_000_000

_Path: TypeAlias = str | os.PathLike[str]


class Growth(NamedTuple):
    """The work of `update_index`.

    Attributes:
        num_added: Items that are new in the index.
        num_updated: Items that were there, and have new codes.
    """

    num_added: int
    num_updated: int


def compact_index(path: _Path, *, rows_per_part: int = ROWS_PER_PART) -> IndexReport:
    """Rewrite an index of many small parts, as many additions leave it, into few full ones.

    Contents and order stay as they are.

    Args:
        path: The folder of the index.
        rows_per_part: Most rows in one part.

    Returns:
        A report on the index as it is now.

    Raises:
        FileExistsError: The folder holds other things than an index.
        FileNotFoundError: The folder is no index, or a part is missing.
        ValueError: A part is torn, changed or foreign. The index is then as it was.
    """
    with locked_index(path):
        manifest = read_manifest(Path(path))
        with _Rewriter(path, manifest, rows_per_part) as writer:
            for table in read_all_tables(Path(path), manifest):
                writer.append_table(table)
        return describe_index(path)


def merge_indexes(
    output: _Path, *paths: _Path, overwrite: bool = False, rows_per_part: int = ROWS_PER_PART
) -> IndexReport:
    """Write one index of the items of several, one index after another.

    Args:
        output: The folder to write; with `overwrite` it may be one of `paths`.
        *paths: Folders of indexes with one layout, one type of ids and the same columns.
        overwrite: Whether an index at `output` is replaced.
        rows_per_part: Most rows in one part.

    Returns:
        A report on the merged index.

    Raises:
        FileExistsError: `output` exists and `overwrite` is not set, or it is no index.
        FileNotFoundError: A folder is no index, or a part is missing.
        ValueError: No path is given, the indexes do not fit each other, an id occurs twice, or a
            part is torn, changed or foreign.
    """
    if not paths:
        raise ValueError("paths must name at least one index to merge. Received: none")
    folders = [Path(path) for path in paths]

    def merge(manifests: list[Manifest]) -> None:
        first = manifests[0]
        for folder, manifest in zip(folders, manifests, strict=True):
            _require_alike(first, manifest, folder)
        ids: list[pa.Array] = []
        with _Rewriter(output, first, rows_per_part, overwrite=overwrite) as writer:
            for folder, manifest in zip(folders, manifests, strict=True):
                for table in read_all_tables(folder, manifest):
                    ids.extend(table[ID_COLUMN].chunks)
                    writer.append_table(table.select(first.schema.names))
            require_unique(pa.chunked_array(ids, ID_TYPES[first.id_type]))

    with locked_index(output):
        read_one_state(folders, merge, is_checked=True)
        return describe_index(output)


def remove_from_index(path: _Path, ids: Any, *, rows_per_part: int = ROWS_PER_PART) -> IndexReport:
    """Rewrite the parts that hold items of these ids, without them; the others keep their order.

    Args:
        path: The folder of the index.
        ids: Ids of the index's type.
        rows_per_part: Most rows in one part.

    Returns:
        A report on the index as it is now.

    Raises:
        FileNotFoundError: The folder is no index, or a part is missing.
        TypeError: The ids are not of the index's type.
        ValueError: The index has no item of an id (it is then as it was), or a part that is read
            is torn, changed or foreign.
    """
    with locked_index(path):
        manifest = read_manifest(Path(path))
        gone = to_ids(ids, manifest.id_type)

        def remove(table: pa.Table) -> pa.Table:
            return table.filter(pc.invert(pc.is_in(table[ID_COLUMN], value_set=gone)))

        with _Rewriter(path, manifest, rows_per_part) as writer:
            require_known(gone, writer.rewrite_parts(gone, remove))
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

    Returns:
        How many items were added, and how many updated.

    Raises:
        FileNotFoundError: The folder is no index, or a part is missing.
        TypeError: Ids or metadata are not of the index's types.
        ValueError: The items are of another layout, or a part that is read is torn, changed or
            foreign. The index is then as it was.
    """
    with locked_index(path):
        return update_locked(path, items, rows_per_part)


def update_locked(path: _Path, items: CodeIndex, rows_per_part: int = ROWS_PER_PART) -> Growth:
    """Does what `update_index` does, for a caller that holds the lock of the index."""
    manifest = read_manifest(Path(path))
    items.require_layout(manifest.layout)
    newer = _like(items.table, manifest.schema)
    with _Rewriter(path, manifest, rows_per_part) as writer:
        is_known = writer.rewrite_parts(newer[ID_COLUMN], lambda older: _updated(older, newer))
        further = newer.filter(pa.array(~is_known))
        missing = {
            name: pa.nulls(len(further), manifest.schema.field(name).type)
            for name in manifest.schema.names
            if name not in newer.column_names
        }
        columns = [missing.get(name) or further[name] for name in manifest.schema.names]
        writer.append_table(pa.table(columns, schema=manifest.schema))
    return Growth(int((~is_known).sum()), int(is_known.sum()))


class _Rewriter(CodeIndexWriter):
    """Writes an index anew while the caller holds its lock."""

    _lock = staticmethod(lambda path: contextlib.nullcontext())

    def __init__(
        self, path: _Path, manifest: Manifest, rows_per_part: int, *, overwrite: bool = True
    ) -> None:
        super().__init__(
            path,
            manifest.layout,
            overwrite=overwrite,
            rows_per_part=rows_per_part,
            schema=manifest.schema,
        )
        self.manifest = manifest

    def rewrite_parts(
        self, ids: pa.ChunkedArray, change: Callable[[pa.Table], pa.Table]
    ) -> np.ndarray:
        """Change the parts that hold some of the ids, keep the others, and say which ids are there.

        Returns:
            bool `[num_ids]`.
        """
        is_known = np.zeros(len(ids), bool)
        for part, is_here in _find_ids(self.path, self.manifest, ids):
            is_known |= is_here
            if not is_here.any():
                require_within(self.path / part.name, self.path)
                self.keep_part(self.path / part.name, part)
                continue
            columns = self.manifest.schema.names
            for table in read_tables(self.path, part, self.manifest, columns, checksum=True):
                self.append_table(change(table))
        return is_known


def _find_ids(
    folder: Path, manifest: Manifest, ids: pa.ChunkedArray
) -> Iterator[tuple[Part, np.ndarray]]:
    """Yield each part, and which of the ids it holds, bool `[num_ids]`."""
    require_parts(folder, manifest, alone=True)
    for part in manifest.parts:
        is_here = np.zeros(len(ids), bool)
        if part.may_hold(ids):
            for table in read_tables(folder, part, manifest, [ID_COLUMN], checksum=False):
                is_here |= pc.is_in(ids, value_set=table[ID_COLUMN]).to_numpy()
        yield part, is_here


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


def _require_alike(first: Manifest, other: Manifest, path: _Path) -> None:
    other.layout.require(first.layout)
    expected = {"id": first.id_type, **first.metadata_columns}
    received = {"id": other.id_type, **other.metadata_columns}
    if expected != received:
        raise ValueError(
            f"All indexes must have the same column types, {expected}. "
            f"Received: {received} in {str(path)!r}"
        )
