"""Reading the Parquet parts of an index so that errors name them and no part grows in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of
from tfpqn.files.foreign import reading
from tfpqn.index.manifest import Manifest, Part, require_as_written
from tfpqn.index.parquet_footer import count_values
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, require_ids

# Codes are as good as random and ids differ: of real collections the rest is no hundred times more.
_LARGEST_EXPANSION = 100
_ALWAYS_BOUNDED = 2**26
_BYTES_PER_VALUE = 8
# Of a number in a dictionary, which a list may repeat without end.
_BYTES_PER_NUMBER = 4


def read_tables(
    folder: Path,
    manifest: Manifest,
    columns: Sequence[str],
    parts: Sequence[Part] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of parts, or of all, one row group at a time, checked, in the index's types.

    A ValueError names a part that is changed or foreign, that holds other columns, rows or codes
    than it should, or whose rows would take far more memory than its bytes can hold.
    """
    schema = pa.schema([manifest.schema.field(name) for name in columns])
    yield schema.empty_table()  # An index may have no item.
    for part in manifest.parts if parts is None else parts:
        path, num_rows = folder / part.name, 0
        # Opened once, so that what is checked is what is read.
        with reading(path, "a part of an index"), open(path, "rb") as opened:
            file = _open_parquet(path, opened, part, manifest)
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns)
                num_rows += len(table)
                _require_bounded(path, part, sum(map(_decoded_size, table.columns)))
                table = table.select(columns).cast(schema)
                if ID_COLUMN in columns:
                    require_ids(table[ID_COLUMN])
                if CODE_COLUMN in columns:
                    manifest.layout.from_arrow(table[CODE_COLUMN])
                yield table
            require_as_written(path, "rows", part.rows, num_rows)


def read_rows(
    folder: Path, manifest: Manifest, columns: Sequence[str], positions: range
) -> Iterator[pa.Table]:
    """As `read_tables`, of the items at these positions alone; no other part is opened."""
    ends = list(accumulate((part.rows for part in manifest.parts), initial=0))
    first = max(bisect_right(ends, positions.start) - 1, 0)
    start, parts = ends[first], manifest.parts[first : bisect_left(ends, positions.stop)]
    for table in read_tables(folder, manifest, columns, parts):
        skipped = min(max(positions.start - start, 0), len(table))
        yield table.slice(skipped, max(positions.stop - start - skipped, 0))
        start += len(table)


def find_ids(
    folder: Path, manifest: Manifest, part: Part, ids: pa.ChunkedArray
) -> npt.NDArray[np.bool_]:
    """Which of the ids a part holds; it is opened only if its range has some of them."""
    is_here = np.zeros(len(ids), bool)
    if part.may_hold(ids):
        for table in read_tables(folder, manifest, [ID_COLUMN], [part]):
            is_here |= pc.is_in(ids, value_set=table[ID_COLUMN]).to_numpy()
    return is_here


def _open_parquet(path: Path, file: BinaryIO, part: Part, manifest: Manifest) -> pq.ParquetFile:
    """A part of which checksum, columns and sizes are as they should be."""
    require_as_written(path, "sha256", part.sha256, sha256_of(file))
    footer = pq.read_metadata(file)
    names = footer.schema.to_arrow_schema().names
    if set(names) != set(manifest.schema.names):
        raise ValueError(f"{path} must have the columns {manifest.schema.names}. Received: {names}")
    # Only row groups are asked: of a forged column pyarrow's objects end the process.
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    require_as_written(path, "rows", part.rows, sum(group.num_rows for group in groups))
    bytes_per_row = sum(map(_bytes_per_value, manifest.schema.types))
    sizes = (
        part.rows * bytes_per_row,
        sum(max(0, group.total_byte_size) for group in groups),
        _BYTES_PER_NUMBER * count_values(file),
    )
    _require_bounded(path, part, max(sizes))
    # Equal strings are read once, and counted before they grow.
    leaves = [footer.schema.column(number) for number in range(len(footer.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return pq.ParquetFile(file, metadata=footer, read_dictionary=texts)


def _require_bounded(path: Path, part: Part, size: int) -> None:
    """A few bytes of Parquet can stand for any number of equal values."""
    limit = _ALWAYS_BOUNDED + _LARGEST_EXPANSION * part.bytes
    if size > limit:
        raise ValueError(
            f"{path} must not take more than {_LARGEST_EXPANSION} times its {part.bytes} bytes "
            f"(and {_ALWAYS_BOUNDED}) in memory. Received: a file that would take {size} bytes"
        )


def _bytes_per_value(kind: pa.DataType) -> int:
    return kind.byte_width if pa.types.is_fixed_size_binary(kind) else _BYTES_PER_VALUE


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
