"""Changing an index on disk: read once, one row group at a time, and replaced in one step.

Memory does not grow with the index, but for the ids where two items might have the same. There is
one writer at a time: another is refused with a BlockingIOError that names the index. Readers get
the former index or the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index._columns import type_named
from tfpqn.index._ids import ARROW_ID_TYPES, check_unique_ids, convert_ids, require_known
from tfpqn.index._manifest import Manifest, read_manifest
from tfpqn.index._parts import RowGroup
from tfpqn.index._reading import IndexReport, describe_index, read_all_row_groups, read_one_state
from tfpqn.index.code_index import CodeIndex
from tfpqn.index.code_index_writer import CodeIndexWriter, locked_index

__all__ = ["Growth", "compact_index", "merge_indexes", "remove_from_index", "update_index"]

ROWS_PER_PART = 1_000_000

_Path: TypeAlias = str | os.PathLike[str]


class Growth(NamedTuple):
    """What `update_index` did.

    Attributes:
        num_added: Items that are new in the index.
        num_updated: Items that were there, and have new codes.
    """

    num_added: int
    num_updated: int


def compact_index(path: _Path, *, rows_per_part: int = ROWS_PER_PART) -> IndexReport:
    """Rewrite an index of many small parts, as many writers leave it, into few full ones.

    Contents and order stay as they are.

    Args:
        path: The folder of the index.
        rows_per_part: Most rows in one part.

    Returns:
        What the index is now.

    Raises:
        FileExistsError: The folder holds other things than an index.
        FileNotFoundError: The folder is no index, or a part is missing.
        ValueError: A part is torn, changed or foreign. The index is then as it was.
    """
    with locked_index(path):
        manifest = read_manifest(Path(path))
        with _rewriter(path, manifest, rows_per_part) as writer:
            for group in read_all_row_groups(Path(path), manifest):
                _append(writer, group)
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
        What the merged index is.

    Raises:
        FileExistsError: `output` exists and `overwrite` is not set, or it is no index.
        FileNotFoundError: A folder is no index, or a part is missing.
        ValueError: No path is given, the indexes do not fit each other, an id occurs twice, or a
            part is torn, changed or foreign.
    """
    if not paths:
        raise ValueError("paths must name at least one index to merge, got none.")
    folders = [Path(path) for path in paths]

    def merge(manifests: list[Manifest]) -> None:
        for folder, manifest in zip(folders, manifests, strict=True):
            _require_alike(manifests[0], manifest, folder)
        ids: list[pa.Array] = []
        with _rewriter(output, manifests[0], rows_per_part, overwrite=overwrite) as writer:
            for folder, manifest in zip(folders, manifests, strict=True):
                for group in read_all_row_groups(folder, manifest):
                    ids.extend(group.ids.chunks)
                    _append(writer, group)
            check_unique_ids(pa.chunked_array(ids, ARROW_ID_TYPES[manifests[0].id_type]))

    with locked_index(output):
        read_one_state(folders, merge, is_checked=True)
        return describe_index(output)


def remove_from_index(path: _Path, ids: Any, *, rows_per_part: int = ROWS_PER_PART) -> IndexReport:
    """Rewrite an index without the items of these ids; the others keep their order.

    Args:
        path: The folder of the index.
        ids: Of the index's type.
        rows_per_part: Most rows in one part.

    Returns:
        What the index is now.

    Raises:
        FileNotFoundError: The folder is no index, or a part is missing.
        TypeError: The ids are not of the index's type.
        ValueError: The index has no item of an id (it is then as it was), or a part is torn,
            changed or foreign.
    """
    with locked_index(path):
        manifest = read_manifest(Path(path))
        wanted = convert_ids(ids, manifest.id_type)
        is_known = np.zeros(len(wanted), bool)
        with _rewriter(path, manifest, rows_per_part) as writer:
            for group in read_all_row_groups(Path(path), manifest):
                is_known |= pc.is_in(wanted, value_set=group.ids).to_numpy()
                items = _as_index(group, manifest)
                _append(writer, items.remove(_shared_ids(group, wanted)))
            require_known(wanted, is_known)
        return describe_index(path)


def update_index(path: _Path, items: CodeIndex, *, rows_per_part: int = ROWS_PER_PART) -> Growth:
    """Rewrite an index with new codes and metadata for known ids, in place, and further items.

    The index keeps its columns: one that `items` lacks stays as it is for known ids and is missing
    for further ones; one that only `items` has is left out.

    Args:
        path: The folder of the index.
        items: Known items, and further ones, which come last in their own order.
        rows_per_part: Most rows in one part.

    Returns:
        How many items were added, and how many updated.

    Raises:
        FileNotFoundError: The folder is no index, or a part is missing.
        TypeError: Ids or metadata are not of the index's types.
        ValueError: The items are of another layout, or a part is torn, changed or foreign. The
            index is then as it was.
    """
    with locked_index(path):
        return update_locked(path, items, rows_per_part)


def update_locked(path: _Path, items: CodeIndex, rows_per_part: int = ROWS_PER_PART) -> Growth:
    """Does what `update_index` does, for a caller that holds the lock of the index."""
    manifest = read_manifest(Path(path))
    items.require_layout(manifest.layout)
    newer = convert_ids(items.ids, manifest.id_type)
    is_known = np.zeros(len(items), bool)
    with _rewriter(path, manifest, rows_per_part) as writer:
        for group in read_all_row_groups(Path(path), manifest):
            older = _as_index(group, manifest)
            rows = np.flatnonzero(pc.is_in(newer, value_set=group.ids).to_numpy())
            is_known[rows] = True
            _append(writer, _updated(older, items, rows))
        _append(writer, _further(items, np.flatnonzero(~is_known), manifest))
    return Growth(int((~is_known).sum()), int(is_known.sum()))


def _updated(older: CodeIndex, newer: CodeIndex, rows: np.ndarray) -> CodeIndex:
    """Some items of an index with the codes, and what metadata there is, of the newer ones."""
    if not len(rows):
        return older
    ids = convert_ids(newer.ids[rows], older.id_type)
    places = pc.index_in(ids, value_set=convert_ids(older.ids, older.id_type))
    columns = {
        name: newer.metadata[name].take(rows)
        if name in newer.metadata.column_names
        else older.metadata[name].take(places)
        for name in older.metadata.column_names
    }
    return older.update(newer.codes[rows], ids, columns)


def _further(items: CodeIndex, rows: np.ndarray, manifest: Manifest) -> CodeIndex:
    """Items that the index has not, with its columns: those they lack are missing values."""
    columns = {
        name: items.metadata[name].take(rows)
        if name in items.metadata.column_names
        else pa.nulls(len(rows), type_named(kind))
        for name, kind in manifest.metadata_columns.items()
    }
    return CodeIndex(items.layout, items.codes[rows], items.ids[rows], columns)


def _shared_ids(group: RowGroup, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    return group.ids.filter(pc.is_in(group.ids, value_set=wanted))


def _as_index(group: RowGroup, manifest: Manifest) -> CodeIndex:
    return CodeIndex(manifest.layout, group.codes, group.ids, group.metadata)


def _append(writer: CodeIndexWriter, items: RowGroup | CodeIndex) -> None:
    writer.append(items.codes, items.ids, items.metadata)


class _LockedWriter(CodeIndexWriter):
    """Writes while the caller holds the lock of the index."""

    _lock = staticmethod(lambda path: contextlib.nullcontext())


@contextlib.contextmanager
def _rewriter(
    path: _Path, manifest: Manifest, rows_per_part: int, *, overwrite: bool = True
) -> Iterator[CodeIndexWriter]:
    """A writer of the manifest's types, which hold even if no item is left to tell them."""
    columns = {
        name: pa.array([], type_named(kind)) for name, kind in manifest.metadata_columns.items()
    }
    with _LockedWriter(
        path, manifest.layout, overwrite=overwrite, rows_per_part=rows_per_part
    ) as writer:
        no_codes = np.empty((0, manifest.layout.code_length), manifest.layout.code_dtype)
        writer.append(no_codes, pa.array([], ARROW_ID_TYPES[manifest.id_type]), columns)
        yield writer


def _require_alike(first: Manifest, other: Manifest, path: _Path) -> None:
    other.layout.require_sizes(first.layout)
    other.layout.require_fingerprint(first.layout.fingerprint)
    expected = {"id": first.id_type, **first.metadata_columns}
    received = {"id": other.id_type, **other.metadata_columns}
    if expected != received:
        raise ValueError(
            f"all indexes must have the same column types, {expected}, "
            f"got {received} in {str(path)!r}."
        )
