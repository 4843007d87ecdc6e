"""The ids of a collection in the graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .neighbours import NO_POSITION


class ItemIds(tf.Module):
    """Translates positions into ids and back; ids that count from 0 take no memory.

    Args:
        ids: `[num_items]`, integers or strings.
        id_type: "int64" or "string".

    Attributes:
        dtype: Dtype of the ids.
    """

    def __init__(self, ids: np.ndarray, id_type: str) -> None:
        super().__init__(name="item_ids")
        self.dtype = tf.string if id_type == "string" else tf.int64
        self.num_items = len(ids)
        self.are_positions = id_type == "int64" and bool(np.array_equal(ids, np.arange(len(ids))))
        if not self.are_positions:
            self.ids = tf.Variable(tf.constant(ids, self.dtype), trainable=False, name="ids")

    def at(self, positions: tf.Tensor) -> tf.Tensor:
        """Ids of any shape; -1 or the empty string where there is no position."""
        if self.are_positions:
            return tf.cast(positions, tf.int64)
        missing = tf.constant("" if self.dtype == tf.string else NO_POSITION, self.dtype)
        ids = tf.gather(self.ids, tf.maximum(positions, 0)) if self.num_items else missing
        return tf.where(positions < 0, missing, ids)

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """int32 positions of ids `[batch]`; -1 for an unknown one."""
        if self.are_positions:
            is_known = (ids >= 0) & (ids < self.num_items)
            return tf.cast(tf.where(is_known, ids, NO_POSITION), tf.int32)
        return first_positions(self.ids, ids)


def first_positions(values: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """int32 `[batch]`: the first position of each of `wanted` in `values`, -1 where there is none.

    A scan: it takes no memory beyond the values, and less time than the search that follows.
    """
    positions = tf.map_fn(
        lambda one: tf.concat([tf.where(tf.equal(values, one))[:, 0], [NO_POSITION]], 0)[0],
        wanted,
        fn_output_signature=tf.TensorSpec([], tf.int64),
    )
    return tf.cast(positions, tf.int32)


def are_among(ids: tf.Tensor, lists: tf.Tensor) -> tf.Tensor:
    """Which of each query's ids `[queries, n]` are in its list `[queries, m]`: bool `[queries, n]`.

    By bisection: a comparison of each id with each of the list would take much memory.
    """
    flat = tf.concat([tf.reshape(ids, [-1]), tf.reshape(lists, [-1])], axis=0)
    numbers = tf.unique(flat).idx
    wanted = tf.reshape(numbers[: tf.size(ids)], tf.shape(ids))
    ordered = tf.sort(tf.reshape(numbers[tf.size(ids) :], tf.shape(lists)), axis=1)
    # A last number that no id has: no list is empty, and bisection ends within it.
    ordered = tf.pad(ordered, [[0, 0], [0, 1]], constant_values=tf.int32.max)
    places = tf.searchsorted(ordered, wanted)
    return tf.equal(tf.gather(ordered, places, batch_dims=1), wanted)
