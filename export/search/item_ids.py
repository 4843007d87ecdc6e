"""The ids of a collection in the graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .groups import Groups, numbers_of_rows
from .neighbours import NO_POSITION

# Ids that are compared with each one that is looked for, about: fewer take more memory.
IDS_PER_BUCKET = 8


class ItemIds(tf.Module):
    """Translates positions into ids and back; ids that count from 0 take no memory.

    Integers that ascend are found by bisection. Others lie in buckets by their hash, and all of a
    bucket are compared.

    Args:
        ids: `[num_items]`, integers or strings, each once.
        id_type: "int64" or "string".

    Attributes:
        dtype: Dtype of the ids.
    """

    def __init__(self, ids: np.ndarray, id_type: str) -> None:
        super().__init__(name="item_ids")
        self.dtype = tf.string if id_type == "string" else tf.int64
        self.num_items = len(ids)
        self.are_positions = id_type == "int64" and bool(np.array_equal(ids, np.arange(len(ids))))
        if self.are_positions:
            return
        self.ids = tf.Variable(tf.constant(ids, self.dtype), trainable=False, name="ids")
        self.buckets = None
        if id_type == "string" or not (ids[1:] > ids[:-1]).all():
            self._num_buckets = max(len(ids) // IDS_PER_BUCKET, 1)
            buckets = self._bucket_of(self.ids).numpy()
            self.buckets = Groups(buckets, self._num_buckets, "buckets")

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
        if self.buckets is None:
            places = tf.minimum(tf.searchsorted(self.ids, ids), self.num_items - 1)
            return tf.where(tf.equal(tf.gather(self.ids, places), ids), places, NO_POSITION)
        places, splits = self.buckets.of(self._bucket_of(ids))
        rows = numbers_of_rows(splits[1:] - splits[:-1])
        is_it = tf.equal(tf.gather(self.ids, places), tf.gather(ids, rows))
        places = tf.where(is_it, places, NO_POSITION)
        return tf.maximum(tf.math.unsorted_segment_max(places, rows, tf.size(ids)), NO_POSITION)

    def _bucket_of(self, ids: tf.Tensor) -> tf.Tensor:
        texts = ids if self.dtype == tf.string else tf.as_string(ids)
        return tf.strings.to_hash_bucket_fast(texts, self._num_buckets)


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
