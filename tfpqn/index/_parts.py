"""Parquet parts: codes as Arrow columns and back, and reading parts so that errors name them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of
from tfpqn.files.foreign import reading, require_within
from tfpqn.index._columns import CODE_COLUMN, ID_COLUMN, metadata_table, to_arrow, type_name
from tfpqn.index._footer import ColumnChunk, read_column_chunks
from tfpqn.index._ids import ARROW_ID_TYPES, ids_to_arrow
from tfpqn.index._manifest import Manifest, Part
from tfpqn.index.code_layout import CodeLayout

# Codes are as good as random and ids differ: of real collections the rest is no hundred times more.
_LARGEST_EXPANSION = 100
_ALWAYS_BOUNDED = 2**26
_BYTES_PER_VALUE = 8


@dataclass(frozen=True)
class RowGroup:
    """Checked rows of one part."""

    codes: np.ndarray
    ids: pa.ChunkedArray
    metadata: pa.Table


def codes_to_arrow(codes: np.ndarray, layout: CodeLayout) -> pa.Array:
    """Returns codes `[rows, code_length]` of `code_dtype` as fixed-size binary, little-endian.

    The column shares the memory of the codes where the machine is little-endian, too.
    """
    stored = np.ascontiguousarray(codes, dtype=layout.code_dtype.newbyteorder("<"))
    kind = pa.binary(layout.bytes_per_code)
    return pa.Array.from_buffers(kind, len(stored), [None, pa.py_buffer(stored)])


def codes_from_arrow(column: pa.ChunkedArray, layout: CodeLayout) -> np.ndarray:
    """Returns the codes `[rows, code_length]` of a column, checked against the layout.

    Raises:
        ValueError: if a code is missing, has another size or holds an unknown codeword.
    """
    if column.null_count:
        raise ValueError(f"every item must have a code, got {column.null_count} without.")
    kind = pa.binary(layout.bytes_per_code)
    if column.type != kind:  # Spark writes only binary of free size
        column = column.cast(kind)
    chunks = [_codes_of_chunk(chunk, layout) for chunk in column.chunks if len(chunk)]
    empty = np.empty((0, layout.code_length), layout.code_dtype)
    return layout.cast_codes(chunks[0] if len(chunks) == 1 else np.concatenate([empty, *chunks]))


def _codes_of_chunk(chunk: pa.Array, layout: CodeLayout) -> np.ndarray:
    # A chunk may be a slice: its rows begin `offset` codes into the buffer.
    codes = np.frombuffer(
        chunk.buffers()[1],
        dtype=layout.code_dtype.newbyteorder("<"),
        count=len(chunk) * layout.code_length,
        offset=chunk.offset * layout.bytes_per_code,
    )
    return codes.reshape(len(chunk), layout.code_length)


def require_parts(folder: Path, manifest: Manifest, *, alone: bool) -> None:
    """Looks whether the parts are there, and of their sizes, before any of them is read.

    Args:
        folder: where the index is.
        manifest: what should be there.
        alone: whether to refuse parts that the manifest does not name.

    Raises:
        FileNotFoundError: if a part is missing.
        ValueError: if one is truncated or foreign, or too small for the codes of its rows.
    """
    found = {path.name for path in folder.iterdir() if path.suffix == ".parquet"}
    for part in manifest.parts:
        path = folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{part.name} is missing from the index {str(folder)!r}.")
        _require(path, "bytes", part.bytes, path.stat().st_size)
        _require_bounded(path, part, part.rows * manifest.layout.bytes_per_code)
    if alone and (foreign := found - {part.name for part in manifest.parts}):
        raise ValueError(
            f"{min(foreign)} is foreign to the index {str(folder)!r}: expected only the "
            f"{len(manifest.parts)} parts that its manifest names."
        )


@contextlib.contextmanager
def open_part(
    folder: Path, part: Part, manifest: Manifest, *, checksum: bool
) -> Iterator[pq.ParquetFile]:
    """Opens a part once, so that what is checked is what is read, and looks at its footer.

    Args:
        folder: where the index is.
        part: which one.
        manifest: what should be there.
        checksum: whether to read every byte for its SHA-256.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is truncated, changed or foreign, has other columns or another number of
            rows than it should, or its rows would take far more memory than its bytes can hold.
    """
    path = folder / part.name
    require_within(path, folder)
    with reading(path, "a part of an index"), open(path, "rb") as file:
        _require(path, "bytes", part.bytes, os.fstat(file.fileno()).st_size)
        if checksum:
            _require(path, "sha256", part.sha256, sha256_of(file))
        columns = read_column_chunks(file)
        footer = pq.read_metadata(file)
        _check_schema(path, manifest, footer.schema.to_arrow_schema())
        _require(path, "rows", part.rows, footer.num_rows)
        _require_bounded(path, part, _size_in_memory(columns, manifest.layout.bytes_per_code))
        # Equal strings are read once, and counted before they grow.
        names = {column.path for column in columns if column.has_equal_strings_once}
        yield pq.ParquetFile(file, metadata=footer, read_dictionary=sorted(names))


def read_row_groups(
    folder: Path, part: Part, manifest: Manifest, columns: Sequence[str], *, checksum: bool
) -> Iterator[RowGroup]:
    """Yields the rows of a part, one row group at a time, with the metadata `columns`.

    Raises:
        FileNotFoundError: if the part is missing.
        ValueError: if it is truncated, changed or foreign, or holds other columns, rows or codes
            than it should.
    """
    path, num_rows = folder / part.name, 0
    with open_part(folder, part, manifest, checksum=checksum) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, [ID_COLUMN, CODE_COLUMN, *columns])
            num_rows += table.num_rows
            _require_bounded(path, part, sum(map(_decoded_size, table.columns)))
            table = pa.table(
                dict(zip(table.column_names, map(_decoded, table.columns), strict=True))
            )
            ids = to_arrow(table[ID_COLUMN], ARROW_ID_TYPES[manifest.id_type], "ids")
            yield RowGroup(
                codes=codes_from_arrow(table[CODE_COLUMN], manifest.layout),
                ids=ids_to_arrow(ids, manifest.id_type),
                metadata=metadata_table(table.select(list(columns)), table.num_rows),
            )
        _require(path, "rows", part.rows, num_rows)


def _check_schema(path: Path, manifest: Manifest, schema: pa.Schema) -> None:
    found = {field.name: type_name(field.type) for field in schema}
    code_kind = schema.field(CODE_COLUMN).type if CODE_COLUMN in found else None
    if code_kind == pa.binary(manifest.layout.bytes_per_code) or code_kind == pa.binary():
        found[CODE_COLUMN] = "code"
    expected = {ID_COLUMN: manifest.id_type, CODE_COLUMN: "code", **manifest.metadata_columns}
    if found != expected:
        expected[CODE_COLUMN] = str(pa.binary(manifest.layout.bytes_per_code))
        found[CODE_COLUMN] = str(code_kind)
        raise ValueError(f"{path} must have the columns {expected}, got {found}.")


def _require(path: Path, name: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise ValueError(
            f"{path} is torn, changed or of another index: expected {name} {expected} "
            f"by the manifest, got {found}."
        )


def _require_bounded(path: Path, part: Part, size: int) -> None:
    """A few bytes of Parquet can stand for any number of equal values."""
    limit = _ALWAYS_BOUNDED + _LARGEST_EXPANSION * part.bytes
    if size > limit:
        raise ValueError(
            f"{path} must not take more than {_LARGEST_EXPANSION} times its {part.bytes} bytes "
            f"(and {_ALWAYS_BOUNDED}) in memory, got a file that would take {size} bytes or more."
        )


def _size_in_memory(columns: list[ColumnChunk], bytes_per_code: int) -> int:
    """At least so many bytes the rows take; equal strings are counted once."""
    widths = [bytes_per_code if c.path == CODE_COLUMN else _BYTES_PER_VALUE for c in columns]
    return sum(
        max(0, column.num_bytes, column.num_values * width)
        for column, width in zip(columns, widths, strict=True)
    )


def _decoded_size(column: pa.ChunkedArray) -> int:
    return sum(_decoded_size_of_chunk(chunk) for chunk in column.chunks)


def _decoded_size_of_chunk(chunk: pa.Array) -> int:
    if _is_list(chunk.type):
        chunk = chunk.flatten()
    if not pa.types.is_dictionary(chunk.type):
        return int(chunk.nbytes)
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if _is_list(kind) and pa.types.is_dictionary(kind.value_type):
        list_of = pa.large_list if pa.types.is_large_list(kind) else pa.list_
        return column.cast(list_of(kind.value_type.value_type))
    return column


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)
