"""Items read one by one and in parallel, those that cannot be read left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfpqn.datasets.image_set import ImageSet
from tfpqn.datasets.lazy_tensorflow import tf


def read_items(
    items: tf.data.Dataset,
    read: Callable[..., tuple[np.ndarray, np.bool_]],
    item_shape: tuple[int, ...],
    batch_size: int,
) -> tf.data.Dataset:
    """Read items in parallel, ahead of their use, in order.

    Args:
        items: Dataset of tuples whose first entry is the position; the arguments of `read`.
        read: Gives the item, uint8 of `item_shape`, and whether it could be read.
        item_shape: Shape of one item.
        batch_size: Items per batch; the last may be smaller.

    Returns:
        Dataset of `(items [batch, ..], positions [batch])` of the items that could be read.
    """

    def read_one(position: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        item, ok = tf.numpy_function(read, [position, *others], (tf.uint8, tf.bool))
        return tf.ensure_shape(item, item_shape), position, tf.ensure_shape(ok, [])

    return (
        items.map(read_one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .filter(lambda item, position, ok: ok)
        .map(lambda item, position, ok: (item, position))
        .batch(batch_size)
    )


def find_readable(items: ImageSet, batch_size: int, need: str, noun: str) -> np.ndarray:
    """Positions of the items that can be read: a pass over all of them.

    Args:
        items: The set.
        batch_size: Items held at a time.
        need: What must be, for the message.
        noun: What the items are, in the plural, for the message.

    Raises:
        ValueError: None can be read.
    """
    for _ in items.batches(batch_size):
        pass
    readable = [position for position, id_ in enumerate(items.ids) if id_ not in items.skipped]
    if not readable:
        raise ValueError(
            f"{need}. Received: {len(items)} {noun}, none readable; the first: "
            f"{next(iter(items.skipped.items()), None)}"
        )
    return np.array(readable)
