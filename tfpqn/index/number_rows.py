"""Rows of numbers as a column of fixed-size binary, little-endian, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# The metadata column of the items' embeddings, which a search can rank candidates by.
EMBEDDING_COLUMN = "embedding"
EMBEDDING_DTYPE = np.dtype(np.float16)


def to_arrow(rows: np.ndarray) -> pa.Array:
    """Numbers `[rows, width]` as a column, which shares their memory where it can."""
    stored = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    kind = pa.binary(stored.shape[1] * stored.itemsize)
    return pa.Array.from_buffers(kind, len(stored), [None, pa.py_buffer(stored)])


def from_arrow(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray:
    """The numbers `[rows, width]` of a column; anything stands where a value is missing."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = array.type.byte_width // dtype.itemsize
    # An array may be a slice: its rows begin `offset` values into the buffer.
    numbers = np.frombuffer(
        array.buffers()[1] or b"",
        dtype.newbyteorder("<"),
        count=len(array) * width,
        offset=array.offset * array.type.byte_width,
    )
    return numbers.reshape(len(array), width)


def to_half(embeddings: npt.ArrayLike) -> np.ndarray:
    """Embeddings `[rows, dim]` as float16; a ValueError if a value does not fit."""
    values = np.asarray(embeddings)
    with np.errstate(over="ignore"):
        halves = values.astype(EMBEDDING_DTYPE)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"Embeddings that are kept must be finite and fit float16, at most "
            f"{np.finfo(EMBEDDING_DTYPE).max:,.0f}. Received: {np.abs(values).max()}"
        )
    return halves


def read_embeddings(metadata: pa.Table, embedding_dim: int) -> np.ndarray:
    """The kept embeddings of all items, float16 `[num_items, embedding_dim]`.

    Raises:
        ValueError: There are none, those of some items are missing, or they have another length.
    """
    if EMBEDDING_COLUMN not in metadata.column_names:
        raise ValueError(
            "rerank needs the embeddings of the items: index them with keep_embeddings "
            f"(--keep-embeddings). Received: an index with {metadata.column_names} beside its codes"
        )
    column = metadata[EMBEDDING_COLUMN]
    expected = pa.binary(embedding_dim * EMBEDDING_DTYPE.itemsize)
    if column.type != expected or column.null_count:
        raise ValueError(
            f"Each item must have an embedding, {embedding_dim} numbers of float16. Received: "
            f"{column.null_count} items without one, others of type {column.type}"
        )
    return from_arrow(column, EMBEDDING_DTYPE)
