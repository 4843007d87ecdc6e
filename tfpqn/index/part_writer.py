"""Streaming tables of one schema into the Parquet parts of an index."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import sha256_of_file
from tfpqn.index.manifest import Part, part_name
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN

_ROWS_PER_GROUP = 2**17
_MAX_WAITING_TABLES = 256


class PartWriter:
    """Writes rows into parts of `rows_per_part` rows, holding back one row group at most.

    Args:
        folder: Where the parts go; under other names until `finish`, since a part's name says
            how many there are.
        schema: Schema of every table.
        rows_per_part: Most rows in one part.
    """

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_part: int) -> None:
        self.folder = folder
        self.schema = schema
        self.rows_per_part = rows_per_part
        self.num_rows = 0
        self._done: list[Part] = []
        self._file: pq.ParquetWriter | None = None
        self._rows_in_part = 0
        self._id_ranges: list[tuple[int, int] | tuple[str, str]] = []
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, table: pa.Table) -> None:
        """Add a table, whose memory may change afterwards."""
        self.num_rows += table.num_rows
        while table.num_rows and table.num_rows >= (room := self._room()):
            self._wait(table.slice(0, room))
            self._flush()
            table = table.slice(room)
        if table.num_rows:
            # A copy, since what waits must not change.
            self._wait(table.take(np.arange(table.num_rows)))

    def keep(self, source: Path, part: Part) -> None:
        """Add a part that is there already, as it is: a link to its file, where there are links."""
        self._close_part()
        path = self._unnamed()
        try:
            os.link(os.path.realpath(source), path)
        except OSError:
            shutil.copyfile(source, path)
        self.num_rows += part.rows
        self._done.append(part)

    def finish(self) -> tuple[Part, ...]:
        """Write what waits, give the parts their names and describe them.

        Without any row there is one part, so that the schema stays known.
        """
        if not self._done and self._file is None:
            self._flush()
        self._close_part()
        num_parts = len(self._done)
        parts = []
        for number, part in enumerate(self._done):
            parts.append(dataclasses.replace(part, name=part_name(number, num_parts)))
            os.rename(self._unnamed(number), self.folder / parts[-1].name)
        return tuple(parts)

    def abandon(self) -> None:
        """Close the file that is open, whatever state it is in; harmless after `finish`."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                file.close()
            file.is_open = False  # else it tries again, and fails again, when collected

    def _room(self) -> int:
        """Rows that are missing to a row group, or to the end of the part."""
        return min(_ROWS_PER_GROUP, self.rows_per_part - self._rows_in_part) - self._num_waiting

    def _wait(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        if len(self._waiting) > _MAX_WAITING_TABLES:
            # Thousands of tables of a few rows would weigh more than the rows in them.
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]

    def _flush(self) -> None:
        if self._file is None:
            options = _storage_options(self.schema)
            self._file = pq.ParquetWriter(self._unnamed(), self.schema, **options)
        table = pa.concat_tables([self.schema.empty_table(), *self._waiting])
        self._waiting, self._num_waiting = [], 0
        self._file.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows_in_part += table.num_rows
        if table.num_rows:
            ends = pc.min_max(table[ID_COLUMN]).as_py()
            self._id_ranges.append((ends["min"], ends["max"]))
        if self._rows_in_part == self.rows_per_part:
            self._close_part()

    def _close_part(self) -> None:
        if self._num_waiting:
            self._flush()
        if self._file is None:
            return
        self._file.close()
        self._file = None
        path = self._unnamed()
        lows, highs = zip(*self._id_ranges, strict=True) if self._id_ranges else ((), ())
        part = Part(
            name=path.name,
            rows=self._rows_in_part,
            bytes=path.stat().st_size,
            sha256=sha256_of_file(path),
            id_range=(min(lows), max(highs)) if lows else None,
        )
        self._done.append(part)
        self._rows_in_part, self._id_ranges = 0, []

    def _unnamed(self, number: int | None = None) -> Path:
        """Where a part lies until all are named; the next one by default."""
        return self.folder / f"{len(self._done) if number is None else number:05d}.unnamed"


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
