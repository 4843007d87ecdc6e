"""Which row each value of a ragged tensor belongs to."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# A row's number stands above these bits, a value's place in its row in them: both are int32.
_LOW_BITS = 31


def numbers_of_rows(lengths: tf.Tensor) -> tf.Tensor:
    """int32 `[sum(lengths)]`: 0 `lengths[0]` times, then 1 `lengths[1]` times, and so on.

    As `tf.repeat`, in ops that grow with the result alone.
    """
    low_bits = tf.constant(_LOW_BITS, tf.int64)
    rows = tf.range(tf.size(lengths, tf.int64))
    firsts = tf.bitwise.left_shift(rows, low_bits)
    limits = firsts + tf.cast(lengths, tf.int64)
    ranges = tf.raw_ops.RaggedRange(starts=firsts, limits=limits, deltas=np.int64(1))
    return tf.cast(tf.bitwise.right_shift(ranges.rt_dense_values, low_bits), tf.int32)
