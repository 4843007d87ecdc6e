"""Reading an index from disk, into memory or only to look whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tfpqn.index._ids import ARROW_ID_TYPES, IdType, check_unique_ids
from tfpqn.index._manifest import MANIFEST_NAME, Manifest, read_manifest
from tfpqn.index._parts import RowGroup, read_row_groups, require_parts
from tfpqn.index.code_layout import CodeLayout

_MAX_TRIES = 10

_Result = TypeVar("_Result")


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


def read_one_state(
    folders: Sequence[Path], read: Callable[[list[Manifest]], _Result], *, is_checked: bool
) -> _Result:
    """Reads indexes, each in one state, though others may replace them meanwhile.

    A folder is replaced as a whole, and a part is opened once. So what the checksums in the
    manifest confirm is of one state; without them the manifest must be the same at the end. What
    fails because a folder was replaced is tried again.

    Args:
        folders: where the indexes are.
        read: reads what the manifests describe, one for each folder.
        is_checked: whether `read` compares every part with its checksum.

    Raises:
        BlockingIOError: if they are replaced again and again.
        FileNotFoundError: if the manifest or a part is missing.
        ValueError: if the manifest or a part is torn, changed or foreign.
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
    """What tells the file of a manifest from any other; None where there is none."""
    try:
        status = os.stat(folder / MANIFEST_NAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def verify_index(folder: Path) -> IndexReport:
    """Reads everything once, one row group at a time, and keeps nothing but the ids.

    Raises:
        FileNotFoundError: if the manifest or a part is missing.
        ValueError: if the manifest or a part is torn, changed or foreign, or an id is double.
    """

    def verify(manifests: list[Manifest]) -> IndexReport:
        (manifest,) = manifests
        ids: list[pa.Array] = []
        for group in read_all_row_groups(folder, manifest):
            ids.extend(group.ids.chunks)
        check_unique_ids(pa.chunked_array(ids, ARROW_ID_TYPES[manifest.id_type]))
        return _report(folder, manifest)

    return read_one_state([folder], verify, is_checked=True)


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
    """Yields everything once, one row group at a time, compared with its checksum before.

    Raises:
        FileNotFoundError: if a part is missing.
        ValueError: if a part is torn or foreign.
    """
    require_parts(folder, manifest, alone=True)
    columns = list(manifest.metadata_columns)
    for part in manifest.parts:
        yield from read_row_groups(folder, part, manifest, columns, checksum=True)


def read_labels(path: str | os.PathLike[str]) -> dict[str, int]:
    """Returns the number in the column `label` of each name in `label_name`, in order of number.

    Raises:
        ValueError: if the index has no such columns, or a part is torn or foreign.
    """
    folder, columns = Path(path), ["label", "label_name"]

    def read(manifests: list[Manifest]) -> set[tuple[int, str]]:
        (manifest,) = manifests
        _choose_columns(manifest, columns)
        pairs: set[tuple[int, str]] = set()
        for part in manifest.parts:
            for group in read_row_groups(folder, part, manifest, columns, checksum=False):
                distinct = group.metadata.group_by(columns).aggregate([]).drop_null()
                pairs.update(tuple(row.values()) for row in distinct.select(columns).to_pylist())
        return pairs

    pairs = read_one_state([folder], read, is_checked=False)
    # Should a name have several numbers, the first is as good as any.
    return {name: number for number, name in sorted(pairs, reverse=True)}


def load_items(
    folder: Path, columns: Sequence[str] | None, *, check: bool
) -> tuple[Manifest, Items]:
    """Reads the parts into arrays that are allocated once.

    Args:
        folder: where the index is.
        columns: the metadata columns to read; all if None.
        check: whether to compare every part with its checksum.

    Raises:
        FileNotFoundError: if the manifest or a part is missing.
        ValueError: if a column is unknown, or the manifest or a part is torn or foreign.
    """

    def load(manifests: list[Manifest]) -> tuple[Manifest, Items]:
        (manifest,) = manifests
        chosen = _choose_columns(manifest, columns)
        # Before room is made for as many rows as the manifest says.
        require_parts(folder, manifest, alone=check)
        return manifest, _read_items(folder, manifest, chosen, check)

    return read_one_state([folder], load, is_checked=check)


def _read_items(folder: Path, manifest: Manifest, columns: list[str], check: bool) -> Items:
    codes = np.empty((manifest.num_items, manifest.layout.code_length), manifest.layout.code_dtype)
    ids: list[pa.Array] = []
    tables = []
    start = 0
    for part in manifest.parts:
        for group in read_row_groups(folder, part, manifest, columns, checksum=check):
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
