"""Candidates as arrays, from what backends and data sets give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops


def to_numpy(values: Any) -> np.ndarray:
    """An array of a tensor, a variable, or what NumPy takes."""
    is_tensor = ops.is_tensor(values) or isinstance(values, keras.Variable)
    return np.asarray(ops.convert_to_numpy(values) if is_tensor else values)


def read_embeddings(values: Any) -> np.ndarray:
    """Embeddings float32 `[num_candidates, embedding_dim]`.

    Raises:
        ValueError: They are no numbers, none at all, or of another rank.
    """
    embeddings = to_numpy(values)
    # NumPy does not know bfloat16 for a float.
    is_number = embeddings.dtype.kind in "fiu" or embeddings.dtype.name == "bfloat16"
    if embeddings.ndim != 2 or not len(embeddings) or not is_number:
        raise ValueError(
            "candidate_embeddings must be numbers [num_candidates, embedding_dim], at least one "
            f"row. Received: {embeddings.dtype} {embeddings.shape}"
        )
    return embeddings.astype(np.float32)


def join_batches(batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """The embeddings of all batches, and their ids if batches are pairs of ids and embeddings.

    Raises:
        ValueError: There is no batch, or one is something else.
    """
    held = list(batches)
    if not held:
        raise ValueError("candidates must hold at least one batch. Received: none")
    if not isinstance(held[0], (tuple, list)):
        return np.concatenate([to_numpy(batch) for batch in held]), None
    if {len(batch) for batch in held} != {2}:
        raise ValueError(
            "Batches must be embeddings, or pairs of ids and embeddings. Received: tuples of "
            f"{len(held[0])}"
        )
    ids, embeddings = (
        np.concatenate(list(map(to_numpy, part))) for part in zip(*held, strict=True)
    )
    return embeddings, ids
