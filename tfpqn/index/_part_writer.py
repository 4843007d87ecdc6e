"""Streaming Arrow tables of one schema into the Parquet parts of an index."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of_file
from tfpqn.index._columns import CODE_COLUMN
from tfpqn.index._manifest import Part, part_name

_ROWS_PER_GROUP = 2**17
_MAX_WAITING_TABLES = 256


class PartWriter:
    """Writes rows into parts of `rows_per_part` rows, holding back one row group at most.

    Args:
        folder: where the parts go; under other names until `finish`, since a part's name says
            how many there are.
        schema: of every table.
        rows_per_part: most rows in one part.
    """

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_part: int) -> None:
        self.folder = folder
        self.schema = schema
        self.rows_per_part = rows_per_part
        self._rows_of_parts: list[int] = []
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    @property
    def num_rows(self) -> int:
        """How many rows have been added."""
        return sum(self._rows_of_parts) + self._num_waiting

    @property
    def room(self) -> int:
        """Most rows that the next table may have, 1 or more."""
        in_part = self._rows_of_parts[-1] if self._file is not None else 0
        return min(_ROWS_PER_GROUP, self.rows_per_part - in_part) - self._num_waiting

    def add(self, table: pa.Table) -> None:
        """Adds a table of at most `room` rows."""
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        if len(self._waiting) > _MAX_WAITING_TABLES:
            # Thousands of tables of a few rows would weigh more than the rows in them.
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]
        if self.room == 0:
            self._flush()

    def finish(self) -> tuple[Part, ...]:
        """Writes what waits, gives the parts their names and describes them.

        Without any row there is one part, so that the schema stays known.
        """
        if self._num_waiting or not self._rows_of_parts:
            self._flush()
        self._close_part()
        num_parts = len(self._rows_of_parts)
        for number in range(num_parts):
            os.rename(self._unnamed(number), self.folder / part_name(number, num_parts))
        return tuple(self._describe(number) for number in range(num_parts))

    def abandon(self) -> None:
        """Closes the file that is open, whatever state it is in; harmless after `finish`."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                file.close()
            file.is_open = False  # else it tries again, and fails again, when collected

    def _flush(self) -> None:
        if self._file is None:
            path = self._unnamed(len(self._rows_of_parts))
            self._file = pq.ParquetWriter(path, self.schema, **_storage_options(self.schema))
            self._rows_of_parts.append(0)
        table = pa.concat_tables([self.schema.empty_table(), *self._waiting])
        self._waiting, self._num_waiting = [], 0
        self._file.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows_of_parts[-1] += table.num_rows
        if self._rows_of_parts[-1] == self.rows_per_part:
            self._close_part()

    def _close_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _unnamed(self, number: int) -> Path:
        return self.folder / f"{number:05d}.unnamed"

    def _describe(self, number: int) -> Part:
        path = self.folder / part_name(number, len(self._rows_of_parts))
        return Part(
            name=path.name,
            rows=self._rows_of_parts[number],
            bytes=path.stat().st_size,
            sha256=sha256_of_file(path),
        )


def _storage_options(schema: pa.Schema) -> dict[str, object]:
    """Codes are as good as random: compressing, counting and cataloguing them is lost work."""
    leaves = [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name != CODE_COLUMN
    ]
    return {
        "compression": {CODE_COLUMN: "none", **dict.fromkeys(leaves, "zstd")},
        "use_dictionary": leaves[1:],
        "write_statistics": leaves,
    }
