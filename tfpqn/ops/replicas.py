"""What the replicas of `tf.distribute` know of each other; elsewhere there is one replica."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all replicas, one replica after another: `[rows of all, ..]`.

    A gradient by the gathered rows goes back to the replica that each row is of, summed over all
    replicas. Outside of a replica's step, and where there is one replica, the rows themselves.

    Args:
        rows: `[rows, ..]`; replicas may have different numbers of rows.
    """
    context = _find_context()
    if context is None:
        return rows
    # TensorFlow forgets the shape of a row.
    return ops.reshape(context.all_gather(rows, axis=0), (-1, *rows.shape[1:]))


def find_first_row(rows: Tensor) -> Tensor:
    """The place of this replica's first row among those that `gather_rows` gives; an integer."""
    context = _find_context()
    if context is None:
        return 0
    counts = context.all_gather(ops.reshape(ops.shape(rows)[0], (1,)), axis=0)
    return ops.sum(counts[: context.replica_id_in_sync_group])


def _find_context() -> Any:
    """TensorFlow's context of a replica among several; None where there is none."""
    if keras.backend.backend() != "tensorflow":
        return None
    # The one place where the core needs it: Keras has no such thing of its own.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context
