"""Writing an index that need not fit into memory."""

from __future__ import annotations

import operator
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.part_writer import ROWS_PER_PART, PartWriter, locked_index, writing_parts
from tfpqn.index.schema import Metadata, to_table


class CodeIndexWriter:
    """Streams items into an index on disk, which appears whole at the end of the block.

    At most one part (`rows_per_part` rows) waits in memory. The first append that brings items
    fixes the type of the ids and the metadata columns. After an append has failed the block cannot
    end well: the former index, if any, stays as it is. Ids are not remembered, so that memory stays
    bounded: an id given twice is refused by `CodeIndex.verify` and by `CodeIndex.load`.

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
        if operator.index(rows_per_part) < 1:
            raise ValueError(f"rows_per_part must be 1 or more. Received: {rows_per_part}")
        self.path = Path(path)
        self.layout = layout
        self.overwrite = overwrite
        self.rows_per_part = rows_per_part
        self.num_items = 0
        self._closing = ExitStack()
        self._parts: PartWriter | None = None  # inside the block
        self._has_failed = False

    def __enter__(self) -> CodeIndexWriter:
        self.num_items, self._has_failed = 0, False
        with ExitStack() as entered:
            entered.enter_context(locked_index(self.path))
            parts = writing_parts(
                self.path, self.layout, None, self.rows_per_part, overwrite=self.overwrite
            )
            self._parts = entered.enter_context(parts)
            self._closing = entered.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parts = None
        if error is None and self._has_failed:
            error = RuntimeError(
                "An index must hold all that was appended. Received: an append to "
                f"{str(self.path)!r} that failed; nothing was written there"
            )
            self._closing.__exit__(type(error), error, None)
            raise error
        self._closing.__exit__(kind, error, traceback)

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
        parts = self._open_parts()
        self._has_failed = True
        table = to_table(self.layout, codes, ids, metadata, parts.schema)
        if len(table):
            parts.add(table)
        self.num_items, self._has_failed = parts.num_rows, False

    def append_table(self, table: pa.Table) -> None:
        """Add checked items, such as those of `CodeIndex.table`; see `append`."""
        parts = self._open_parts()
        parts.add(table)
        self.num_items = parts.num_rows

    def _open_parts(self) -> PartWriter:
        if self._parts is None or self._has_failed:
            raise RuntimeError(
                "append must be called inside the with block of a writer whose appends went well. "
                f"Received: {'a failed append before' if self._has_failed else 'a closed writer'}"
            )
        return self._parts
