"""Vectors in a Parquet file, read a row group at a time."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn.datasets.image_set import ImageBatch
from tfpqn.datasets.vectors.columns import read_columns, read_labels
from tfpqn.datasets.vectors.vector_set import VectorSet
from tfpqn.files.foreign import reading
from tfpqn.items import to_vectors

EXPECTED = "a Parquet file with one column of vectors"
# Vectors of so many bytes are looked at when the file is opened, in a second; those of larger files
# as they are read, since each command would read them all twice.
CHECKED_BYTES = 2**28
# Columns that mean something; any other of plain values is metadata.
ID_COLUMN, LABEL_COLUMN = "id", "label"


class ParquetVectors(VectorSet):
    """Vectors of a Parquet file that need not fit into memory.

    One column holds lists of numbers, all of one length. A column `id` holds the ids, else row
    numbers are; `label` holds labels, numbers or names; other columns are metadata. These are held
    in memory, and of the vectors a row group. Rows are best read in their order. A row group is
    checked when it is read; files of up to 256 MB are checked when they are opened.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no Parquet file, does not have exactly one column of vectors, or these
            differ in width, are missing or not finite; so does `read`.
    """

    in_memory = False
    fields = ("rows", "labels", "ids")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with reading(self.path, EXPECTED):
            self._file = pq.ParquetFile(self.path)
            schema = self._file.schema_arrow
            if len(set(schema.names)) < len(schema.names):
                raise ValueError(f"several columns of one name among {schema.names}")
            lists = [field.name for field in schema if _is_vectors(field.type)]
            if len(lists) != 1:
                raise ValueError(f"{len(lists)} columns of lists of numbers: {lists}")
            column = lists[0]
            # Rows are mostly read in their order, a row group in several batches.
            self._decode = functools.lru_cache(maxsize=2)(
                functools.partial(_read_group, self._file, column)
            )
            footer = self._file.metadata
            counts = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
            self._starts = np.cumsum([0, *counts])
            dim = self._check(schema.field(column).type)
            others = self._file.read([name for name in schema.names if name != column])
        known = {
            name: others[name] for name in (ID_COLUMN, LABEL_COLUMN) if name in others.column_names
        }
        self.rows = np.arange(footer.num_rows)
        labels, ids = known.get(LABEL_COLUMN), known.get(ID_COLUMN)
        names: tuple[str, ...] = ()
        if labels is not None:
            labels, names = read_labels(np.array(labels.to_pylist(), object))
        if ids is not None:
            ids = np.array(ids.to_pylist(), object) if ids.null_count else ids.to_numpy()
        metadata = read_columns(others.drop_columns(list(known)))
        self._describe((len(self.rows), dim), labels, names, ids, metadata)

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> ImageBatch:
        rows = self.rows[positions]
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        vectors = np.empty((len(rows), *self.image_shape), np.float32)
        for group in np.unique(groups).tolist():
            chosen = groups == group
            read = self._read_group(group, *self.image_shape)
            vectors[chosen] = read[rows[chosen] - self._starts[group]]
        return ImageBatch(vectors, positions)

    def held_in_memory(self, most_bytes: int) -> VectorSet:
        """The vectors in memory; where they take more, so many of them, evenly spread."""
        most = max(1, most_bytes // (4 * self.image_shape[0]))
        chosen = np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64)
        part = self.subset(chosen)
        vectors = np.concatenate([batch.images for batch in part.batches(2**12)])
        return VectorSet(vectors, part.labels, part.ids, part.label_names)

    def _check(self, kind: pa.DataType) -> int:
        """The width of all vectors, after a look at them, if that takes little time."""
        groups = np.flatnonzero(np.diff(self._starts)).tolist()
        if not groups:
            raise ValueError("no vectors")
        is_fixed = pa.types.is_fixed_size_list(kind)
        dim = kind.list_size if is_fixed else self._decode(groups[0]).shape[1]
        if 4 * dim * self._starts[-1] <= CHECKED_BYTES:
            for group in groups:
                self._read_group(group, dim)
        return int(dim)

    def _read_group(self, group: int, dim: int) -> np.ndarray:
        """Vectors float32 `[rows, dim]` of a row group."""
        with reading(self.path, EXPECTED):
            vectors = self._decode(group)
            if vectors.shape[1] != dim:
                raise ValueError(f"vectors of the widths {dim} and {vectors.shape[1]}")
        return vectors


def _read_group(file: Any, name: str, group: int) -> np.ndarray:
    """Vectors float32 `[rows, dim]` of a row group."""
    column = file.read_row_group(group, [name])[name].combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    lengths = set(np.diff(lists.offsets)) if not pa.types.is_fixed_size_list(lists.type) else ()
    if lists.null_count or len(set(lengths)) > 1:
        raise ValueError(f"vectors in row group {group} that are missing or differ in width")
    values = lists.flatten()
    if values.null_count:
        raise ValueError(f"missing numbers in vectors of row group {group}")
    numbers = values.to_numpy(zero_copy_only=False)
    return to_vectors(numbers.reshape(len(lists), -1), f"the vectors of row group {group}")


def _is_vectors(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )
    if not is_list:
        return False
    inner = kind.value_type
    return pa.types.is_floating(inner) or pa.types.is_integer(inner)
