"""Candidates as arrays, from what backends and data sets give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.items import to_vectors


def to_numpy(values: Any) -> np.ndarray:
    """An array of a tensor, a variable, or what NumPy takes."""
    is_tensor = ops.is_tensor(values) or isinstance(values, keras.Variable)
    try:
        return np.asarray(ops.convert_to_numpy(values) if is_tensor else values)
    except ValueError:
        # Rows of different lengths: no array of anything.
        return np.empty(0, object)


def read_embeddings(values: Any) -> np.ndarray:
    """Embeddings float32 `[num_candidates, embedding_dim]`.

    Raises:
        ValueError: They are no numbers, none at all, of another rank, or not finite as float32.
    """
    embeddings = to_numpy(values)
    # NumPy does not know bfloat16 for a float.
    is_number = embeddings.dtype.kind in "fiu" or embeddings.dtype.name == "bfloat16"
    if embeddings.ndim != 2 or not embeddings.size or not is_number:
        raise ValueError(
            "candidate_embeddings must be numbers [num_candidates, embedding_dim], at least one "
            f"row. Received: {embeddings.dtype} {embeddings.shape}"
        )
    if embeddings.dtype.kind not in "fiu":
        embeddings = embeddings.astype(np.float32)
    return to_vectors(embeddings, "candidate_embeddings")


def join_batches(batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """The embeddings of all batches, and their ids if batches are pairs of ids and embeddings.

    Raises:
        ValueError: There is no batch, or one is something else than the others.
    """
    held = list(batches)
    if not held:
        raise ValueError("candidates must hold at least one batch. Received: none")
    sizes = {len(batch) if isinstance(batch, (tuple, list)) else 0 for batch in held}
    if sizes not in ({0}, {2}):
        received = [f"tuples of {size}" if size else "embeddings" for size in sorted(sizes)]
        raise ValueError(
            "Batches must all be embeddings, or all be pairs of ids and embeddings. Received: "
            f"{' and '.join(received)}"
        )
    if sizes == {0}:
        return _concatenate(held), None
    ids, embeddings = (_concatenate(part) for part in zip(*held, strict=True))
    return embeddings, ids


def _concatenate(parts: Iterable[Any]) -> np.ndarray:
    arrays = list(map(to_numpy, parts))
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1 or not all(array.ndim for array in arrays):
        raise ValueError(
            "Batches must be arrays that differ in their first axis alone; batch a data set that "
            f"gives one candidate at a time. Received: rows of the shapes {shapes}"
        )
    return np.concatenate(arrays)
