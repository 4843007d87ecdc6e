"""Writing an index that need not fit into memory."""

from __future__ import annotations

import contextlib
import operator
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfpqn.files.atomic import atomic_directory
from tfpqn.files.locks import exclusive
from tfpqn.index._columns import (
    CODE_COLUMN,
    ID_COLUMN,
    Metadata,
    as_column,
    infer_type,
    metadata_columns,
    metadata_type,
    slice_column,
    to_arrow,
    type_name,
)
from tfpqn.index._ids import IdType, ids_to_arrow, infer_id_type
from tfpqn.index._manifest import MANIFEST_NAME, Manifest
from tfpqn.index._part_writer import PartWriter
from tfpqn.index._parts import codes_to_arrow
from tfpqn.index.code_layout import CodeLayout

__all__ = ["CodeIndexWriter"]

_INDEX_FILE = re.compile(rf"{re.escape(MANIFEST_NAME)}|part-[0-9]+-of-[0-9]+\.parquet")


def locked_index(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """Keeps other writers from the index in the folder `path`."""
    return exclusive(path, "index")


class CodeIndexWriter:
    """Streams items into an index on disk, which appears whole at the end of the block.

    At most one row group (131072 rows, or `rows_per_part` if that is less) waits in memory. The
    first append fixes the type of the ids and the metadata columns. After an append has failed
    the block cannot end well: the former index, if any, stays as it is. Ids are not remembered,
    so that memory stays bounded: an id given twice is refused by `CodeIndex.verify` and by
    `CodeIndex.load`.

    Args:
        path: the folder of the index.
        layout: what the codes look like and which codebooks they belong to.
        overwrite: whether an index at `path` is replaced. Only an index is: a folder that holds
            anything else is refused.
        rows_per_part: most rows in one Parquet file.

    Raises:
        BlockingIOError: on entry, if another writer of the index is at work.
        FileExistsError: on entry, if `path` exists and may not be overwritten.

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
    ) -> None:
        if operator.index(rows_per_part) < 1:
            raise ValueError(f"rows_per_part must be 1 or more, got {rows_per_part}.")
        self.path = Path(path)
        self.layout = layout
        self.overwrite = overwrite
        self.rows_per_part = rows_per_part
        self._closing = ExitStack()
        self._folder: Path | None = None
        self._parts: PartWriter | None = None
        self._has_failed = False

    @property
    def num_items(self) -> int:
        """How many items have been appended."""
        return 0 if self._parts is None else self._parts.num_rows

    def __enter__(self) -> CodeIndexWriter:
        self._parts = None
        self._has_failed = False
        with ExitStack() as entered:
            entered.enter_context(self._lock(self.path))
            if self.overwrite:
                _require_only_index(self.path)
            directory = atomic_directory(self.path, overwrite=self.overwrite)
            self._folder = entered.enter_context(directory)
            self._closing = entered.pop_all()
        self._closing.callback(self._abandon)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        folder, self._folder = self._folder, None
        if error is not None or folder is None:
            self._closing.__exit__(kind, error, traceback)
            return
        with self._closing:
            self._finish(folder)

    def append(self, codes: npt.ArrayLike, ids: Any, metadata: Metadata | None = None) -> None:
        """Adds items to the index.

        Args:
            codes: integers `[rows, code_length]`, each in `[0, num_codewords)`.
            ids: `[rows]`, integers or strings; not -1 and not "", which stand for "no item".
            metadata: values `[rows]` by column name: bool, int, float, str or lists of str.

        Raises:
            RuntimeError: outside the `with` block, or after an append that failed.
            TypeError: if values are of a wrong type, or of another than in the first append.
            ValueError: if shapes, ranges or columns are wrong.
        """
        if self._folder is None or self._has_failed:
            raise RuntimeError(
                "append must be called inside the with block of a writer whose appends went "
                f"well, got {'a failed append before' if self._has_failed else 'a closed writer'}."
            )
        self._has_failed = True
        self._append(self._folder, np.asarray(codes), as_column(ids, "ids"), metadata)
        self._has_failed = False

    def _append(self, folder: Path, codes: np.ndarray, ids: Any, metadata: Metadata | None) -> None:
        self.layout.check_shape(codes)
        if len(ids) != len(codes):
            raise ValueError(
                f"ids must be one for each of the {len(codes)} rows of codes, got {len(ids)}."
            )
        columns = metadata_columns(metadata, len(codes))
        if self._parts is None:
            schema = _infer_schema(self.layout, ids, columns)
            if schema is None:
                return
            self._parts = PartWriter(folder, schema, self.rows_per_part)
        _require_columns(self._parts.schema, columns)
        start = 0
        while start < len(codes):
            rows = slice(start, start + self._parts.room)
            self._parts.add(self._table(self._parts.schema, rows, codes, ids, columns))
            start = rows.stop

    def _table(
        self, schema: pa.Schema, rows: slice, codes: np.ndarray, ids: Any, columns: dict[str, Any]
    ) -> pa.Table:
        """Returns some rows, checked, in memory of their own: the caller may reuse its arrays."""
        own_codes = self.layout.cast_codes(slice_column(codes, rows))
        kind = schema.field(ID_COLUMN).type
        arrays = [
            ids_to_arrow(slice_column(ids, rows), _id_type(schema)).cast(kind),
            codes_to_arrow(own_codes, self.layout),
        ]
        for name, values in columns.items():
            kind = schema.field(name).type
            arrays.append(to_arrow(slice_column(values, rows), kind, f"metadata column {name!r}"))
        named = dict(zip([ID_COLUMN, CODE_COLUMN, *columns], arrays, strict=True))
        return pa.table([named[name] for name in schema.names], schema=schema)

    def _finish(self, folder: Path) -> None:
        if self._has_failed:
            raise RuntimeError(
                f"an index must hold all that was appended, got an append to "
                f"{str(self.path)!r} that failed; nothing was written there."
            )
        if self._parts is None:
            schema = _schema(self.layout, pa.int64(), {})
            self._parts = PartWriter(folder, schema, self.rows_per_part)
        schema = self._parts.schema
        Manifest(
            layout=self.layout,
            id_type=_id_type(schema),
            metadata_columns={field.name: type_name(field.type) for field in list(schema)[2:]},
            parts=self._parts.finish(),
        ).write(folder)

    def _abandon(self) -> None:
        if self._parts is not None:
            self._parts.abandon()


def _infer_schema(layout: CodeLayout, ids: Any, columns: Mapping[str, Any]) -> pa.Schema | None:
    """Returns the schema that the first items give, or None where no items leave it open."""
    id_type = infer_id_type(ids)
    kinds = {
        name: infer_type(values, f"metadata column {name!r}") for name, values in columns.items()
    }
    if len(ids) == 0 and (id_type is None or any(map(pa.types.is_null, kinds.values()))):
        return None
    id_kind = pa.int64() if id_type == "int64" else pa.string()
    return _schema(layout, id_kind, {n: metadata_type(kind, n) for n, kind in kinds.items()})


def _schema(layout: CodeLayout, id_kind: pa.DataType, kinds: Mapping[str, Any]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(ID_COLUMN, id_kind, nullable=False),
            pa.field(CODE_COLUMN, pa.binary(layout.bytes_per_code), nullable=False),
            *(pa.field(name, kind) for name, kind in kinds.items()),
        ]
    )


def _id_type(schema: pa.Schema) -> IdType:
    return "int64" if schema.field(ID_COLUMN).type == pa.int64() else "string"


def _require_columns(schema: pa.Schema, columns: Mapping[str, Any]) -> None:
    expected = schema.names[2:]
    if set(expected) != set(columns):
        raise ValueError(
            f"metadata must have the columns of the first append, {expected}, got {list(columns)}."
        )


def _require_only_index(path: Path) -> None:
    """A slip in the path must not cost a folder of somebody's photographs."""
    if not path.is_dir():
        return
    for entry in sorted(path.iterdir()):
        if not entry.is_file() or _INDEX_FILE.fullmatch(entry.name) is None:
            raise FileExistsError(
                f"overwrite=True replaces only the folder of an index; got {str(path)!r}, "
                f"which also holds {entry.name!r}."
            )
