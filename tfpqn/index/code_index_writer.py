"""Writing an index that need not fit into memory, in one step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfpqn.files.atomic import atomic_directory, sha256_of_file
from tfpqn.files.locks import exclusive
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import MANIFEST_NAME, Manifest, Part, part_name
from tfpqn.index.schema import ID_COLUMN, Metadata, index_schema, to_table

ROWS_PER_PART = 1_000_000
_ROWS_PER_GROUP = 2**17
_MAX_WAITING_CHUNKS = 256
_INDEX_FILE = re.compile(rf"{re.escape(MANIFEST_NAME)}|part-[0-9]+-of-[0-9]+\.parquet")


class CodeIndexWriter:
    """Streams items into an index on disk, which appears whole at the end of the block.

    At most one part (`rows_per_part` rows) waits in memory. The first append that brings items
    fixes the type of the ids and the metadata columns; an append that is refused adds nothing. Ids
    are not remembered, so that memory stays bounded: an id given twice is refused by
    `CodeIndex.verify` and by `CodeIndex.load`.

    Args:
        path: The folder of the index.
        layout: The look of the codes, and which codebooks they belong to.
        overwrite: Whether an index at `path` is replaced. Only an index is: a folder that holds
            anything else is refused.
        rows_per_part: Most rows in one Parquet file.

    Raises:
        BlockingIOError: On entry: another writer of the index is at work.
        FileExistsError: On entry: `path` exists and may not be overwritten.

    Example:
        with CodeIndexWriter("birds", layout) as writer:
            for codes, ids, labels in batches:
                writer.append(codes, ids, {"label": labels})
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: CodeLayout,
        *,
        overwrite: bool = False,
        rows_per_part: int = ROWS_PER_PART,
    ) -> None:
        if rows_per_part < 1:
            raise ValueError(f"rows_per_part must be 1 or more. Received: {rows_per_part}")
        self.path = Path(path)
        self.layout = layout
        self.overwrite = overwrite
        self.rows_per_part = rows_per_part
        self.schema: pa.Schema | None = None
        self.num_items = 0
        self._folder: Path | None = None  # inside the block
        self._parts: list[Part] = []
        self._waiting = pa.table({})

    def __enter__(self) -> CodeIndexWriter:
        self._block = self._writing()
        return self._block.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._block.__exit__(*error)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[CodeIndexWriter]:
        with exclusive(self.path, "index"):
            if self.overwrite:
                require_only_index(self.path)
            with atomic_directory(self.path, overwrite=self.overwrite) as self._folder:
                try:
                    yield self
                    self._finish(self._folder)
                finally:
                    self._folder = None

    @property
    def manifest(self) -> Manifest:
        """The content of the index, as it is after the block."""
        return Manifest(self.layout, self.schema, tuple(self._parts))

    def append(self, codes: npt.ArrayLike, ids: Any, metadata: Metadata | None = None) -> None:
        """Add items to the index.

        Args:
            codes: Integers `[rows, code_length]`, each in `[0, num_codewords)`.
            ids: `[rows]`, integers or strings; not -1 and not "", which stand for "no item".
            metadata: Values `[rows]` by column name: bool, int, float, str or lists of str.

        Raises:
            RuntimeError: Outside the `with` block.
            TypeError: Values are of a wrong type, or of another than in the first append.
            ValueError: Shapes, ranges or columns are wrong.
        """
        table = to_table(self.layout, codes, ids, metadata, self.schema)
        if len(table):
            # A copy, since the caller may change its arrays while they wait.
            self.append_table(table.take(np.arange(len(table))))

    def append_table(self, table: pa.Table) -> None:
        """Add checked items, such as those of `CodeIndex.table`; see `append`."""
        folder = self._open_folder()
        self.schema = self.schema or table.schema
        self.num_items += len(table)
        self._waiting = pa.concat_tables([self._waiting, table]) if self._waiting else table
        while len(self._waiting) >= self.rows_per_part:
            self._write_part(folder)
        if self._waiting[ID_COLUMN].num_chunks > _MAX_WAITING_CHUNKS:
            # Thousands of chunks of a few rows would weigh more than the rows in them.
            self._waiting = self._waiting.combine_chunks()

    def append_part(self, source: Path, part: Part) -> None:
        """Add a part that is there already: a link to its file, where there are links."""
        folder = self._open_folder()
        if self._waiting:
            self._write_part(folder)
        path = _unnamed(folder, len(self._parts))
        try:
            os.link(os.path.realpath(source), path)
        except OSError:
            shutil.copyfile(source, path)
        self.num_items += part.rows
        self._parts.append(part)

    def _open_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError(
                "append must be called inside the with block of a writer. Received: a closed writer"
            )
        return self._folder

    def _write_part(self, folder: Path) -> None:
        """Write the first of the rows that wait; none is lost if it fails."""
        table = self._waiting.slice(0, self.rows_per_part)
        self._parts.append(write_part(table, _unnamed(folder, len(self._parts))))
        self._waiting = self._waiting.slice(self.rows_per_part)

    def _finish(self, folder: Path) -> None:
        """Write the rest, give the parts their names, which say how many there are; the manifest.

        Without any row there is one part, so that the schema stays known.
        """
        self.schema = self.schema or index_schema(self.layout, "int64", {})
        if self._waiting or not self._parts:
            self._waiting = self._waiting or self.schema.empty_table()
            self._write_part(folder)
        names = [part_name(number, len(self._parts)) for number in range(len(self._parts))]
        for number, name in enumerate(names):
            os.rename(_unnamed(folder, number), folder / name)
            self._parts[number] = dataclasses.replace(self._parts[number], name=name)
        self.manifest.write(folder)


def write_part(table: pa.Table, path: Path) -> Part:
    """Write a table of an index's schema as one Parquet file; the same rows give the same bytes."""
    # Ids, codes and embeddings differ from item to item: a dictionary of them would be lost work.
    leaves = [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in list(table.schema)[2:]
        if not pa.types.is_fixed_size_binary(field.type)
    ]
    options = {"compression": "zstd", "use_dictionary": leaves}
    pq.write_table(table, path, row_group_size=_ROWS_PER_GROUP, **options)
    ends = pc.min_max(table[ID_COLUMN]).as_py()
    return Part(
        name=path.name,
        rows=len(table),
        bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        id_range=(ends["min"], ends["max"]) if len(table) else None,
    )


def _unnamed(folder: Path, number: int) -> Path:
    """Where a part lies until it is known how many there are."""
    return folder / f"{number:05d}.unnamed"


def require_only_index(path: Path) -> None:
    """A slip in the path must not cost a folder of somebody's photographs."""
    for entry in sorted(path.iterdir()) if path.is_dir() else ():
        if not entry.is_file() or _INDEX_FILE.fullmatch(entry.name) is None:
            raise FileExistsError(
                f"overwrite=True replaces only the folder of an index. Received: {str(path)!r}, "
                f"which also holds {entry.name!r}"
            )
