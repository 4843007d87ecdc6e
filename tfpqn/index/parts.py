"""Reading the Parquet parts of an index so that errors name them and no part grows in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of
from tfpqn.files.foreign import reading, require_within
from tfpqn.index.manifest import Manifest, Part
from tfpqn.index.parquet_footer import count_values
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, to_column, to_ids, type_name

# Codes are as good as random and ids differ: of real collections the rest is no hundred times more.
_LARGEST_EXPANSION = 100
_ALWAYS_BOUNDED = 2**26
_BYTES_PER_VALUE = 8
_BYTES_PER_NUMBER = 4


def require_parts(folder: Path, manifest: Manifest) -> None:
    """Look whether the parts are there, and of their sizes, before any of them is read.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: One is truncated or foreign, or too small for the codes of its rows.
    """
    found = {path.name for path in folder.iterdir() if path.suffix == ".parquet"}
    for part in manifest.parts:
        path = folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{part.name} is missing from the index {str(folder)!r}")
        _require(path, "bytes", part.bytes, path.stat().st_size)
        _require_bounded(path, part, part.rows * manifest.layout.bytes_per_code)
    if foreign := found - {part.name for part in manifest.parts}:
        raise ValueError(
            f"The index {str(folder)!r} must hold the {len(manifest.parts)} parts that its "
            f"manifest names, and no other. Received: {min(foreign)}, which is foreign"
        )


def read_all_tables(folder: Path, manifest: Manifest, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the columns of all parts, see `read_tables`."""
    require_parts(folder, manifest)
    for part in manifest.parts:
        yield from read_tables(folder, part, manifest, columns)


def read_tables(
    folder: Path, part: Part, manifest: Manifest, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the rows of a part, one row group at a time, checked and of the index's types.

    Raises:
        FileNotFoundError: The part is missing.
        ValueError: It is truncated, changed or foreign, or holds other columns, rows or codes than
            it should, or its rows would take far more memory than its bytes can hold.
    """
    path, num_rows = folder / part.name, 0
    schema = pa.schema([manifest.schema.field(name) for name in columns])
    with _open_part(folder, part, manifest) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns)
            num_rows += table.num_rows
            _require_bounded(path, part, sum(map(_decoded_size, table.columns)))
            arrays = [_checked(table[name], name, manifest) for name in columns]
            yield pa.table(arrays, schema=schema)
        _require(path, "rows", part.rows, num_rows)


def _checked(column: pa.ChunkedArray, name: str, manifest: Manifest) -> pa.ChunkedArray:
    if name == ID_COLUMN:
        return to_ids(column, manifest.id_type)
    if name == CODE_COLUMN:
        return pa.chunked_array([manifest.layout.to_arrow(manifest.layout.from_arrow(column))])
    return to_column(column, f"metadata column {name!r}", manifest.schema.field(name).type)


@contextlib.contextmanager
def _open_part(folder: Path, part: Part, manifest: Manifest) -> Iterator[pq.ParquetFile]:
    """Open a part once, so that what is checked is what is read, and look at its footer."""
    path = folder / part.name
    require_within(path, folder)
    with reading(path, "a part of an index"), open(path, "rb") as file:
        _require(path, "bytes", part.bytes, os.fstat(file.fileno()).st_size)
        _require(path, "sha256", part.sha256, sha256_of(file))
        # Numbers in a dictionary, which a list may repeat without end.
        num_values = count_values(file)
        footer = pq.read_metadata(file)
        _require_columns(path, manifest, footer.schema.to_arrow_schema())
        _require(path, "rows", part.rows, footer.num_rows)
        by_groups = _size_in_memory(footer, manifest.layout.bytes_per_code)
        _require_bounded(path, part, max(by_groups, _BYTES_PER_NUMBER * num_values))
        # Equal strings are read once, and counted before they grow.
        leaves = [footer.schema.column(number) for number in range(len(footer.schema))]
        names = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        yield pq.ParquetFile(file, metadata=footer, read_dictionary=names)


def _require_columns(path: Path, manifest: Manifest, schema: pa.Schema) -> None:
    found = {field.name: type_name(field.type) for field in schema}
    expected = {field.name: type_name(field.type) for field in manifest.schema}
    expected[ID_COLUMN] = manifest.id_type
    code = schema.field(CODE_COLUMN).type if CODE_COLUMN in found else None
    found[CODE_COLUMN] = str(manifest.layout.arrow_type if code == pa.binary() else code)
    if found != expected:
        raise ValueError(f"{path} must have the columns {expected}. Received: {found}")


def _require(path: Path, name: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise ValueError(
            f"{path} is torn, changed or of another index: the manifest says {name} {expected}. "
            f"Received: {found}"
        )


def _require_bounded(path: Path, part: Part, size: int) -> None:
    """A few bytes of Parquet can stand for any number of equal values."""
    limit = _ALWAYS_BOUNDED + _LARGEST_EXPANSION * part.bytes
    if size > limit:
        raise ValueError(
            f"{path} must not take more than {_LARGEST_EXPANSION} times its {part.bytes} bytes "
            f"(and {_ALWAYS_BOUNDED}) in memory. Received: a file that would take {size} bytes"
        )


def _size_in_memory(footer: pq.FileMetaData, bytes_per_code: int) -> int:
    """At least so many bytes the rows take; equal strings are counted once.

    Only row groups are asked: of a forged column pyarrow's objects end the process.
    """
    groups = map(footer.row_group, range(footer.num_row_groups))
    by_rows = footer.num_rows * (bytes_per_code + _BYTES_PER_VALUE * (footer.num_columns - 1))
    return max(by_rows, sum(max(0, group.total_byte_size) for group in groups))


def _decoded_size(column: pa.ChunkedArray) -> int:
    size = 0
    for chunk in column.chunks:
        if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            chunk = chunk.flatten()
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
            size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        else:
            size += chunk.nbytes
    return size
