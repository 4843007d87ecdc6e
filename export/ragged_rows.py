"""Which row each value of a ragged tensor belongs to."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# A range of so small a step counts as many values before its whole part changes.
_STEP = np.float64(2.0**-31)


def numbers_of_rows(lengths: tf.Tensor) -> tf.Tensor:
    """int32 `[sum(lengths)]`: 0 `lengths[0]` times, then 1 `lengths[1]` times, and so on.

    As `tf.repeat`, in one op that grows with the result alone.
    """
    firsts = tf.cast(tf.range(tf.size(lengths)), tf.float64)
    steps = tf.cast(lengths, tf.float64) * _STEP
    ranges = tf.raw_ops.RaggedRange(starts=firsts, limits=firsts + steps, deltas=_STEP)
    return tf.cast(ranges.rt_dense_values, tf.int32)
