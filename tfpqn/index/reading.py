"""Reading an index from disk, into memory or only to look whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import MANIFEST_NAME, Manifest, read_manifest
from tfpqn.index.parts import read_tables, require_parts
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, ID_TYPES, IdType, require_unique

_MAX_TRIES = 10

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class IndexReport:
    """The content of an index on disk."""

    path: Path
    layout: CodeLayout
    id_type: IdType
    metadata_columns: dict[str, str]
    num_items: int
    num_parts: int
    num_bytes: int


def read_one_state(
    folders: Sequence[Path], read: Callable[[list[Manifest]], _Result], *, is_checked: bool
) -> _Result:
    """Read indexes, each in one state, though others may replace them meanwhile.

    A folder is replaced as a whole, and a part is opened once. So what the checksums in the
    manifest confirm is of one state; without them the manifest must be the same at the end. What
    fails because a folder was replaced is tried again.

    Args:
        folders: Where the indexes are.
        read: Reads what the manifests describe, one for each folder.
        is_checked: Whether `read` compares every part with its checksum.

    Raises:
        BlockingIOError: They are replaced again and again.
        FileNotFoundError: The manifest or a part is missing.
        ValueError: The manifest or a part is torn, changed or foreign.
    """
    for _ in range(_MAX_TRIES):
        stamps = [_stamp(folder) for folder in folders]
        manifests = [read_manifest(folder) for folder in folders]
        try:
            result = read(manifests)
        except (FileNotFoundError, ValueError):
            if stamps == [_stamp(folder) for folder in folders]:
                raise
            continue
        if is_checked or stamps == [_stamp(folder) for folder in folders]:
            return result
    raise BlockingIOError(
        "An index must stay as it is while it is read. Received: "
        f"{', '.join(map(str, folders))}, replaced during each of {_MAX_TRIES} tries"
    )


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """The marks that tell the file of a manifest from any other; None where there is none."""
    try:
        status = os.stat(folder / MANIFEST_NAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def describe_index(path: str | os.PathLike[str]) -> IndexReport:
    """The content of an index by its manifest; `CodeIndex.verify` looks at the parts, too.

    Raises:
        FileNotFoundError: The folder is no index.
        ValueError: The manifest is torn or foreign.
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


def verify_index(folder: Path) -> IndexReport:
    """Read everything once, one row group at a time, and keep nothing but the ids.

    Raises:
        FileNotFoundError: The manifest or a part is missing.
        ValueError: The manifest or a part is torn, changed or foreign, or an id is double.
    """

    def verify(manifests: list[Manifest]) -> IndexReport:
        (manifest,) = manifests
        ids: list[pa.Array] = []
        for table in read_all_tables(folder, manifest):
            ids.extend(table[ID_COLUMN].chunks)
        require_unique(pa.chunked_array(ids, ID_TYPES[manifest.id_type]))
        return _report(folder, manifest)

    return read_one_state([folder], verify, is_checked=True)


def read_all_tables(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Yield everything once, one row group at a time, compared with its checksum before.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: A part is torn or foreign.
    """
    require_parts(folder, manifest, alone=True)
    for part in manifest.parts:
        yield from read_tables(folder, part, manifest, manifest.schema.names, checksum=True)


def read_labels(path: str | os.PathLike[str]) -> dict[str, int]:
    """The number in the column `label` of each name in `label_name`, in order of number.

    Raises:
        ValueError: The index has no such columns, or a part is torn or foreign.
    """
    folder, columns = Path(path), ["label", "label_name"]

    def read(manifests: list[Manifest]) -> set[tuple[int, str]]:
        (manifest,) = manifests
        _choose_columns(manifest, columns)
        pairs: set[tuple[int, str]] = set()
        for part in manifest.parts:
            for table in read_tables(folder, part, manifest, columns, checksum=False):
                rows = table.group_by(columns).aggregate([]).to_pylist()
                pairs.update((row["label"], row["label_name"]) for row in rows)
        return {pair for pair in pairs if None not in pair}

    pairs = read_one_state([folder], read, is_checked=False)
    # Where a name has several numbers, the smallest counts.
    return {name: number for number, name in sorted(pairs, reverse=True)}


def load_items(
    folder: Path, columns: Sequence[str] | None, *, check: bool
) -> tuple[CodeLayout, np.ndarray, pa.Table]:
    """Read the layout, the codes into one array, and a table of ids and metadata.

    Args:
        folder: Where the index is.
        columns: The metadata columns to read; all if None.
        check: Whether to compare every part with its checksum.

    Raises:
        FileNotFoundError: The manifest or a part is missing.
        ValueError: A column is unknown, or the manifest or a part is torn or foreign.
    """

    def load(manifests: list[Manifest]) -> tuple[CodeLayout, np.ndarray, pa.Table]:
        (manifest,) = manifests
        chosen = _choose_columns(manifest, columns)
        # Before room is made for as many rows as the manifest says.
        require_parts(folder, manifest, alone=check)
        return manifest.layout, *_read_items(folder, manifest, chosen, check)

    return read_one_state([folder], load, is_checked=check)


def _read_items(
    folder: Path, manifest: Manifest, columns: list[str], check: bool
) -> tuple[np.ndarray, pa.Table]:
    layout = manifest.layout
    codes = np.empty((manifest.num_items, layout.code_length), layout.code_dtype)
    kept = pa.schema([manifest.schema.field(name) for name in [ID_COLUMN, *columns]])
    tables, start = [kept.empty_table()], 0
    for part in manifest.parts:
        names = [ID_COLUMN, CODE_COLUMN, *columns]
        for table in read_tables(folder, part, manifest, names, checksum=check):
            stop = start + table.num_rows
            codes[start:stop] = layout.from_arrow(table[CODE_COLUMN])
            tables.append(table.select(kept.names))
            start = stop
    return codes, pa.concat_tables(tables).combine_chunks()


def _choose_columns(manifest: Manifest, columns: Sequence[str] | None) -> list[str]:
    known = list(manifest.metadata_columns)
    if columns is None:
        return known
    unknown = [name for name in columns if name not in known]
    if isinstance(columns, str) or unknown:
        raise ValueError(
            f"columns must be metadata columns of the index, {known}. Received: {columns!r}"
        )
    return list(columns)
