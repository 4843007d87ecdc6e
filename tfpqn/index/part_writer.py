"""Writing the parts and the manifest of an index, in one step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import atomic_directory, sha256_of_file
from tfpqn.files.locks import exclusive
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import MANIFEST_NAME, Manifest, Part, part_name
from tfpqn.index.schema import CODE_COLUMN, ID_COLUMN, index_schema

ROWS_PER_PART = 1_000_000
_ROWS_PER_GROUP = 2**17
_MAX_WAITING_TABLES = 256
_INDEX_FILE = re.compile(rf"{re.escape(MANIFEST_NAME)}|part-[0-9]+-of-[0-9]+\.parquet")


def locked_index(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """Keep other writers from the index in the folder `path`."""
    return exclusive(path, "index")


class PartWriter:
    """Gathers rows, and writes a part whenever they fill one: at most one waits in memory.

    Args:
        folder: Where the parts go; under other names until `finish`, since a part's name says
            how many there are.
        schema: Schema of every table; None for that of the first.
        rows_per_part: Most rows in one part.
    """

    def __init__(self, folder: Path, schema: pa.Schema | None, rows_per_part: int) -> None:
        self.folder = folder
        self.schema = schema
        self.rows_per_part = rows_per_part
        self.num_rows = 0
        self._done: list[Part] = []
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, table: pa.Table) -> None:
        """Add a table, whose memory may change afterwards."""
        self.schema = self.schema or table.schema
        self.num_rows += len(table)
        while len(table) and len(table) >= (room := self.rows_per_part - self._num_waiting):
            self._waiting.append(table.slice(0, room))
            self._write_part()
            table = table.slice(room)
        if len(table):
            # A copy, since what waits must not change.
            self._waiting.append(table.take(np.arange(len(table))))
            self._num_waiting += len(table)
        if len(self._waiting) > _MAX_WAITING_TABLES:
            # Thousands of tables of a few rows would weigh more than the rows in them.
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]

    def keep(self, source: Path, part: Part) -> None:
        """Add a part that is there already, as it is: a link to its file, where there are links."""
        if self._waiting:
            self._write_part()
        path = self._unnamed(len(self._done))
        try:
            os.link(os.path.realpath(source), path)
        except OSError:
            shutil.copyfile(source, path)
        self.num_rows += part.rows
        self._done.append(part)

    def finish(self, layout: CodeLayout) -> None:
        """Write what waits, give the parts their names, and write the manifest.

        Without any row there is one part, so that the schema stays known.
        """
        self.schema = self.schema or index_schema(layout, "int64", {})
        if self._waiting or not self._done:
            self._write_part()
        names = [part_name(number, len(self._done)) for number in range(len(self._done))]
        for number, name in enumerate(names):
            os.rename(self._unnamed(number), self.folder / name)
        parts = map(lambda part, name: dataclasses.replace(part, name=name), self._done, names)
        Manifest(layout, self.schema, tuple(parts)).write(self.folder)

    def _write_part(self) -> None:
        empty = pa.schema(self.schema).empty_table()
        table = pa.concat_tables([empty, *self._waiting])
        self._waiting, self._num_waiting = [], 0
        path = self._unnamed(len(self._done))
        pq.write_table(table, path, row_group_size=_ROWS_PER_GROUP, **_storage_options(table))
        ends = pc.min_max(table[ID_COLUMN]).as_py()
        part = Part(
            name=path.name,
            rows=len(table),
            bytes=path.stat().st_size,
            sha256=sha256_of_file(path),
            id_range=(ends["min"], ends["max"]) if len(table) else None,
        )
        self._done.append(part)

    def _unnamed(self, number: int) -> Path:
        """Where a part lies until all are named."""
        return self.folder / f"{number:05d}.unnamed"


@contextlib.contextmanager
def writing_parts(
    path: Path,
    layout: CodeLayout,
    schema: pa.Schema | None,
    rows_per_part: int,
    *,
    overwrite: bool,
) -> Iterator[PartWriter]:
    """The parts of an index that appears whole at the end of the block.

    The caller holds the lock of the index.

    Raises:
        FileExistsError: `path` exists and may not be overwritten, or holds other things.
    """
    if overwrite:
        _require_only_index(path)
    with atomic_directory(path, overwrite=overwrite) as folder:
        parts = PartWriter(folder, schema, rows_per_part)
        yield parts
        parts.finish(layout)


def _require_only_index(path: Path) -> None:
    """A slip in the path must not cost a folder of somebody's photographs."""
    for entry in sorted(path.iterdir()) if path.is_dir() else ():
        if not entry.is_file() or _INDEX_FILE.fullmatch(entry.name) is None:
            raise FileExistsError(
                f"overwrite=True replaces only the folder of an index. Received: {str(path)!r}, "
                f"which also holds {entry.name!r}"
            )


def _storage_options(table: pa.Table) -> dict[str, object]:
    """Codes are as good as random: compressing, counting and cataloguing them is lost work."""
    leaves = [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in table.schema
        if field.name != CODE_COLUMN
    ]
    return {
        "compression": {CODE_COLUMN: "none", **dict.fromkeys(leaves, "zstd")},
        "use_dictionary": leaves[1:],
        "write_statistics": leaves,
    }
