"""Parquet parts: codes as Arrow columns and back, and reading parts so that errors name them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn.files import sha256_of_file

from ._columns import CODE_COLUMN, ID_COLUMN, metadata_table, to_arrow, type_name
from ._ids import ARROW_ID_TYPES, ids_to_arrow
from ._manifest import MANIFEST_NAME, Manifest, Part
from .code_layout import CodeLayout


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


def check_part_files(folder: Path, manifest: Manifest, *, checksums: bool) -> None:
    """Compares the files of the folder with the manifest, without decoding them.

    Args:
        folder: where the index is.
        manifest: what should be there.
        checksums: whether to read every byte for its SHA-256, and to refuse further files.

    Raises:
        FileNotFoundError: if a part is missing.
        ValueError: if a part is truncated, changed or foreign.
    """
    for part in manifest.parts:
        path = folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{part.name} is missing from the index {str(folder)!r}.")
        _require(part, "bytes", part.bytes, path.stat().st_size)
        if checksums:
            _require(part, "sha256", part.sha256, sha256_of_file(path))
    if checksums:
        known = {MANIFEST_NAME, *(part.name for part in manifest.parts)}
        for path in sorted(folder.iterdir()):
            if path.suffix == ".parquet" and path.name not in known:
                raise ValueError(
                    f"{path.name} is foreign to the index {str(folder)!r}: expected only the "
                    f"{len(manifest.parts)} parts that its manifest names."
                )


def open_part(folder: Path, part: Part, manifest: Manifest) -> pq.ParquetFile:
    """Opens a part, after a look at its footer.

    Raises:
        ValueError: if it is torn, or has other columns or another number of rows than it should.
    """
    with _naming(part):
        file = pq.ParquetFile(folder / part.name, memory_map=True)
        _check_schema(part, manifest, file.schema_arrow)
        _require(part, "rows", part.rows, file.metadata.num_rows)
        return file


def read_row_groups(
    folder: Path, part: Part, manifest: Manifest, columns: Sequence[str]
) -> Iterator[RowGroup]:
    """Yields the rows of a part, one row group at a time, with the metadata `columns`.

    Raises:
        ValueError: if the part is torn, or holds other columns, rows or codes than it should.
    """
    with _naming(part), open_part(folder, part, manifest) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, [ID_COLUMN, CODE_COLUMN, *columns])
            ids = to_arrow(table[ID_COLUMN], ARROW_ID_TYPES[manifest.id_type], "ids")
            yield RowGroup(
                codes=codes_from_arrow(table[CODE_COLUMN], manifest.layout),
                ids=ids_to_arrow(ids, manifest.id_type),
                metadata=metadata_table(table.select(list(columns)), table.num_rows),
            )


def _check_schema(part: Part, manifest: Manifest, schema: pa.Schema) -> None:
    found = {field.name: type_name(field.type) for field in schema}
    code_kind = schema.field(CODE_COLUMN).type if CODE_COLUMN in found else None
    if code_kind == pa.binary(manifest.layout.bytes_per_code) or code_kind == pa.binary():
        found[CODE_COLUMN] = "code"
    expected = {ID_COLUMN: manifest.id_type, CODE_COLUMN: "code", **manifest.metadata_columns}
    if found != expected:
        expected[CODE_COLUMN] = str(pa.binary(manifest.layout.bytes_per_code))
        found[CODE_COLUMN] = str(code_kind)
        raise ValueError(f"{part.name} must have the columns {expected}, got {found}.")


def _require(part: Part, name: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise ValueError(
            f"{part.name} is torn, changed or of another index: expected {name} {expected} "
            f"by the manifest, got {found}."
        )


@contextlib.contextmanager
def _naming(part: Part) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        if type(error) is ValueError and part.name in str(error):
            raise
        raise ValueError(f"{part.name} cannot be read, it is torn or foreign: {error}") from error
