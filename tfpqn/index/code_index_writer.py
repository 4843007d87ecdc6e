"""Writing an index that need not fit into memory."""

from __future__ import annotations

import contextlib
import operator
import os
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy.typing as npt
import pyarrow as pa

from tfpqn.files.atomic import atomic_directory
from tfpqn.files.locks import exclusive
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import MANIFEST_NAME, Manifest, Part
from tfpqn.index.part_writer import PartWriter
from tfpqn.index.schema import Metadata, index_schema, to_table

_Writer = TypeVar("_Writer", bound="CodeIndexWriter")
_INDEX_FILE = re.compile(rf"{re.escape(MANIFEST_NAME)}|part-[0-9]+-of-[0-9]+\.parquet")


def locked_index(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """Keep other writers from the index in the folder `path`."""
    return exclusive(path, "index")


class CodeIndexWriter:
    """Streams items into an index on disk, which appears whole at the end of the block.

    At most one row group (131072 rows, or `rows_per_part` if that is less) waits in memory. The
    first append that brings items fixes the type of the ids and the metadata columns. After an
    append has failed the block cannot end well: the former index, if any, stays as it is. Ids are
    not remembered, so that memory stays bounded: an id given twice is refused by `CodeIndex.verify`
    and by `CodeIndex.load`.

    Args:
        path: The folder of the index.
        layout: The look of the codes, and which codebooks they belong to.
        overwrite: Whether an index at `path` is replaced. Only an index is: a folder that holds
            anything else is refused.
        rows_per_part: Most rows in one Parquet file.
        schema: Types and columns of the index; None to take those of the first items.

    Raises:
        BlockingIOError: On entry: another writer of the index is at work.
        FileExistsError: On entry: `path` exists and may not be overwritten.

    Example:
        with CodeIndexWriter("birds", layout) as writer:
            for codes, ids, labels in batches:
                writer.append(codes, ids, {"label": labels})
    """

    _lock = staticmethod(locked_index)

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: CodeLayout,
        *,
        overwrite: bool = False,
        rows_per_part: int = 1_000_000,
        schema: pa.Schema | None = None,
    ) -> None:
        if operator.index(rows_per_part) < 1:
            raise ValueError(f"rows_per_part must be 1 or more. Received: {rows_per_part}")
        self.path = Path(path)
        self.layout = layout
        self.overwrite = overwrite
        self.rows_per_part = rows_per_part
        self.schema = schema
        self._closing = ExitStack()
        self._is_open = False
        self._target = self.path  # in the block, the folder that becomes it
        self._parts: PartWriter | None = None
        self._has_failed = False

    @property
    def num_items(self) -> int:
        """Number of items appended so far."""
        return 0 if self._parts is None else self._parts.num_rows

    def __enter__(self: _Writer) -> _Writer:
        self._parts = None
        self._has_failed = False
        with ExitStack() as entered:
            entered.enter_context(self._lock(self.path))
            if self.overwrite:
                _require_only_index(self.path)
            directory = atomic_directory(self.path, overwrite=self.overwrite)
            self._target = entered.enter_context(directory)
            self._closing = entered.pop_all()
        self._closing.callback(self._abandon)
        self._is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        if error is not None:
            self._closing.__exit__(kind, error, traceback)
            return
        with self._closing:
            self._finish()

    def append(self, codes: npt.ArrayLike, ids: Any, metadata: Metadata | None = None) -> None:
        """Add items to the index.

        Args:
            codes: Integers `[rows, code_length]`, each in `[0, num_codewords)`.
            ids: `[rows]`, integers or strings; not -1 and not "", which stand for "no item".
            metadata: Values `[rows]` by column name: bool, int, float, str or lists of str.

        Raises:
            RuntimeError: Outside the `with` block, or after an append that failed.
            TypeError: Values are of a wrong type, or of another than in the first append.
            ValueError: Shapes, ranges or columns are wrong.
        """
        self._require_open()
        self._has_failed = True
        schema = None if self._parts is None else self._parts.schema
        table = to_table(self.layout, codes, ids, metadata, schema or self.schema)
        if table.num_rows:
            self._open_parts(table.schema).add(table)
        self._has_failed = False

    def append_table(self, table: pa.Table) -> None:
        """Add checked items, such as those of `CodeIndex.table`; see `append`."""
        self._require_open()
        self._open_parts(table.schema).add(table)

    def keep_part(self, source: Path, part: Part) -> None:
        """Add the items of a part of another index of the same schema, without reading them."""
        self._require_open()
        self._open_parts(None).keep(source, part)

    def _require_open(self) -> None:
        if not self._is_open or self._has_failed:
            raise RuntimeError(
                "append must be called inside the with block of a writer whose appends went well. "
                f"Received: {'a failed append before' if self._has_failed else 'a closed writer'}"
            )

    def _open_parts(self, schema: pa.Schema | None) -> PartWriter:
        """The parts, of the given schema if there is none yet."""
        if self._parts is None:
            schema = self.schema or schema or index_schema(self.layout, "int64", {})
            self._parts = PartWriter(self._target, schema, self.rows_per_part)
        return self._parts

    def _abandon(self) -> None:
        if self._parts is not None:
            self._parts.abandon()

    def _finish(self) -> None:
        if self._has_failed:
            raise RuntimeError(
                "An index must hold all that was appended. Received: an append to "
                f"{str(self.path)!r} that failed; nothing was written there"
            )
        parts = self._open_parts(None)
        Manifest(self.layout, parts.schema, parts.finish()).write(self._target)


def _require_only_index(path: Path) -> None:
    """A slip in the path must not cost a folder of somebody's photographs."""
    if not path.is_dir():
        return
    for entry in sorted(path.iterdir()):
        if not entry.is_file() or _INDEX_FILE.fullmatch(entry.name) is None:
            raise FileExistsError(
                f"overwrite=True replaces only the folder of an index. Received: {str(path)!r}, "
                f"which also holds {entry.name!r}"
            )
