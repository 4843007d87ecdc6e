"""What an index holds that former states of it do not, and the states to compare it with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfpqn.index.code_index import CodeIndex
from tfpqn.index.code_index_writer import CodeIndexWriter
from tfpqn.index.manifest import Manifest, Part, describe_index, read_one_state
from tfpqn.index.parts import find_ids, read_tables
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, to_ids

_Path: TypeAlias = str | os.PathLike[str]
_POSITION = "position"


class Difference(NamedTuple):
    """What has to be known beside a former state of an index to have the present one.

    Attributes:
        items: Items that are new, in the order of the index, then those that changed.
        hidden: Ids that the former state holds and that are gone or changed.
    """

    items: CodeIndex
    hidden: pa.Array


def copy_index(path: _Path, copy: _Path) -> Manifest:
    """Keep the state that an index has now under another path: links to its parts, where there are
    links.

    Raises:
        FileExistsError: `copy` exists.
    """

    def link(manifest: Manifest) -> Manifest:
        with CodeIndexWriter(copy, manifest.layout) as writer:
            writer.schema = manifest.schema
            for part in manifest.parts:
                writer.append_part(Path(path) / part.name, part)
            if describe_index(path) != manifest:
                # Parts of another state may have the same names.
                raise ValueError(f"{path!s} was replaced while it was copied")
        return writer.manifest

    return read_one_state(Path(path), link)


def compare_index(path: _Path, former: Sequence[_Path], columns: Sequence[str]) -> Difference:
    """What an index holds that former states of it do not; one answer that is right for each.

    Each of the former states, without the hidden ids and with the items, is the present one. Time
    and memory grow with the parts that changed.

    Args:
        path: The index.
        former: States of it, see `copy_index`; at least one.
        columns: Metadata columns that count; changes of others are none.

    Raises:
        ValueError: A former state has other codebooks or columns.
    """

    def compare(manifest: Manifest) -> Difference:
        names = [ID_COLUMN, CODE_COLUMN, *columns]
        pairs = [_compare(Path(path), manifest, Path(state), names) for state in former]
        table = pa.concat_tables(table for table, _ in pairs).combine_chunks()
        _, first = np.unique(table[_POSITION].to_numpy(), return_index=True)
        table = table.take(first)
        hidden = pc.unique(pa.chunked_array([ids for _, ids in pairs]))
        is_changed = pc.is_in(table[ID_COLUMN], value_set=hidden)
        table = pa.concat_tables([table.filter(pc.invert(is_changed)), table.filter(is_changed)])
        table = table.combine_chunks()
        codes = manifest.layout.from_arrow(table[CODE_COLUMN])
        return Difference(
            CodeIndex(manifest.layout, codes, table[ID_COLUMN], table.select(list(columns))), hidden
        )

    return read_one_state(Path(path), compare)


def are_in_index(path: _Path, ids: Any) -> npt.NDArray[np.bool_]:
    """Which of the ids an index has; TypeError if they are not of its type."""

    def find(manifest: Manifest) -> npt.NDArray[np.bool_]:
        wanted = to_ids(ids, manifest.id_type)
        found = [find_ids(Path(path), manifest, part, wanted) for part in manifest.parts]
        return np.any(found, axis=0)

    return read_one_state(Path(path), find)


def _compare(
    folder: Path, manifest: Manifest, state: Path, names: Sequence[str]
) -> tuple[pa.Table, pa.Array]:
    """Rows with their positions that a former state lacks, and its ids that are gone or changed."""
    former = describe_index(state)
    former.layout.require(manifest.layout)
    if former.schema != manifest.schema:
        raise ValueError(
            f"A former state of an index must have its columns, {manifest.schema.names}. "
            f"Received: {former.schema.names}, in {str(state)!r}"
        )
    newer = _read_parts(folder, manifest, names, former.parts)
    older = _read_parts(state, former, names, manifest.parts)
    places = pc.index_in(newer[ID_COLUMN], value_set=older[ID_COLUMN]).combine_chunks()
    is_same = _are_equal(newer, older.take(places), names)
    kept = newer[ID_COLUMN].filter(is_same)
    is_hidden = pc.invert(pc.is_in(older[ID_COLUMN], value_set=kept))
    hidden = older[ID_COLUMN].filter(is_hidden).combine_chunks()
    return newer.filter(pc.invert(is_same)), hidden


def _read_parts(
    folder: Path, manifest: Manifest, names: Sequence[str], others: Sequence[Part]
) -> pa.Table:
    """Rows and positions of the parts that are not among others."""
    known = {part.sha256 for part in others}
    starts = accumulate((part.rows for part in manifest.parts), initial=0)
    tables = [manifest.schema.empty_table().select(names)]
    positions = [np.zeros(0, np.int64)]
    for part, start in zip(manifest.parts, starts, strict=False):
        if part.sha256 not in known:
            tables += read_tables(folder, manifest, names, [part])
            positions.append(np.arange(start, start + part.rows))
    table = pa.concat_tables(tables).combine_chunks()
    return table.append_column(_POSITION, pa.array(np.concatenate(positions)))


def _are_equal(newer: pa.Table, older: pa.Table, names: Sequence[str]) -> pa.Array:
    """Which rows are the same in all these columns; missing values are equal."""
    is_same = pa.array(np.ones(len(newer), bool))
    for name in names:
        pair = newer[name].combine_chunks(), older[name].combine_chunks()
        if pa.types.is_list(pair[0].type):
            # Arrow does not compare lists.
            rows = zip(*(column.to_pylist() for column in pair), strict=True)
            equal = pa.array([one == other for one, other in rows], pa.bool_())
        else:
            both_missing = pc.and_(pc.is_null(pair[0]), pc.is_null(pair[1]))
            equal = pc.or_(pc.fill_null(pc.equal(*pair), False), both_missing)
        is_same = pc.and_(is_same, equal)
    return is_same
