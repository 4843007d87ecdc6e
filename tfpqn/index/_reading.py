"""Reading an index from disk, into memory or only to look whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ._ids import ARROW_ID_TYPES, IdType, check_unique_ids
from ._manifest import Manifest, read_manifest
from ._parts import RowGroup, check_part_files, open_part, read_row_groups
from .code_layout import CodeLayout


@dataclass(frozen=True)
class IndexReport:
    """What an index on disk holds."""

    path: Path
    layout: CodeLayout
    id_type: IdType
    metadata_columns: dict[str, str]
    num_items: int
    num_parts: int
    num_bytes: int


@dataclass(frozen=True)
class Items:
    """The content of an index: codes `[num_items, code_length]`, ids, metadata columns."""

    codes: np.ndarray
    ids: pa.Array
    metadata: pa.Table


def verify_index(folder: Path) -> IndexReport:
    """Reads everything once, one row group at a time, and keeps nothing but the ids.

    Raises:
        FileNotFoundError: if the manifest or a part is missing.
        ValueError: if the manifest or a part is torn, changed or foreign, or an id is double.
    """
    manifest = read_manifest(folder)
    check_part_files(folder, manifest, checksums=True)
    ids: list[pa.Array] = []
    for group in read_all_row_groups(folder, manifest):
        ids.extend(group.ids.chunks)
    check_unique_ids(pa.chunked_array(ids, ARROW_ID_TYPES[manifest.id_type]))
    return _report(folder, manifest)


def describe_index(path: str | os.PathLike[str]) -> IndexReport:
    """What the manifest of an index says; the parts are not looked at, see `CodeIndex.verify`.

    Raises:
        FileNotFoundError: if the folder is no index.
        ValueError: if the manifest is torn or foreign.
    """
    return _report(Path(path), read_manifest(Path(path)))


def _report(folder: Path, manifest: Manifest) -> IndexReport:
    return IndexReport(
        path=folder,
        layout=manifest.layout,
        id_type=manifest.id_type,
        metadata_columns=manifest.metadata_columns,
        num_items=manifest.num_items,
        num_parts=len(manifest.parts),
        num_bytes=sum(part.bytes for part in manifest.parts),
    )


def read_all_row_groups(folder: Path, manifest: Manifest) -> Iterator[RowGroup]:
    """Yields everything once, one row group at a time.

    Raises:
        ValueError: if a part is torn or foreign.
    """
    for part in manifest.parts:
        yield from read_row_groups(folder, part, manifest, list(manifest.metadata_columns))


def read_labels(path: str | os.PathLike[str]) -> dict[str, int]:
    """Returns the number in the column `label` of each name in `label_name`, in order of number.

    Raises:
        ValueError: if the index has no such columns, or a part is torn or foreign.
    """
    folder, columns = Path(path), ["label", "label_name"]
    manifest = read_manifest(folder)
    _choose_columns(manifest, columns)
    pairs: set[tuple[int, str]] = set()
    for part in manifest.parts:
        for group in read_row_groups(folder, part, manifest, columns):
            distinct = group.metadata.group_by(columns).aggregate([]).drop_null()
            pairs.update(tuple(row.values()) for row in distinct.select(columns).to_pylist())
    # Should a name have several numbers, the first is as good as any.
    return {name: number for number, name in sorted(pairs, reverse=True)}


def read_items(folder: Path, manifest: Manifest, columns: Sequence[str] | None) -> Items:
    """Reads the parts into arrays that are allocated once.

    Raises:
        ValueError: if a column is unknown, or a part is torn or foreign.
    """
    chosen = _choose_columns(manifest, columns)
    for part in manifest.parts:  # before room is made for as many rows as the manifest says
        open_part(folder, part, manifest).close()
    codes = np.empty((manifest.num_items, manifest.layout.code_length), manifest.layout.code_dtype)
    ids: list[pa.Array] = []
    tables = []
    start = 0
    for part in manifest.parts:
        for group in read_row_groups(folder, part, manifest, chosen):
            stop = start + len(group.codes)
            codes[start:stop] = group.codes
            ids.extend(group.ids.chunks)
            tables.append(group.metadata)
            start = stop
    column = pa.chunked_array(ids, ARROW_ID_TYPES[manifest.id_type]).combine_chunks()
    return Items(codes, column, pa.concat_tables(tables) if tables else pa.table({}))


def _choose_columns(manifest: Manifest, columns: Sequence[str] | None) -> list[str]:
    known = list(manifest.metadata_columns)
    if columns is None:
        return known
    unknown = [name for name in columns if name not in known]
    if isinstance(columns, str) or unknown:
        raise ValueError(
            f"columns must be metadata columns of the index, {known}, got {columns!r}."
        )
    return list(columns)
