"""Reading an index from disk, into memory or only to look whether it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ._ids import ARROW_ID_TYPES, check_unique_ids
from ._manifest import Manifest, read_manifest
from ._parts import check_part_files, open_part, read_row_groups
from .code_layout import CodeLayout


@dataclass(frozen=True)
class IndexReport:
    """What `CodeIndex.verify` found in an index that is whole."""

    path: Path
    layout: CodeLayout
    id_type: str
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
    for part in manifest.parts:
        for group in read_row_groups(folder, part, manifest, list(manifest.metadata_columns)):
            ids.extend(group.ids.chunks)
    check_unique_ids(pa.chunked_array(ids, ARROW_ID_TYPES[manifest.id_type]))
    return IndexReport(
        path=folder,
        layout=manifest.layout,
        id_type=manifest.id_type,
        metadata_columns=manifest.metadata_columns,
        num_items=manifest.num_items,
        num_parts=len(manifest.parts),
        num_bytes=sum(part.bytes for part in manifest.parts),
    )


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
