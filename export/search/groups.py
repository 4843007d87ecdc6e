"""Numbers in groups: which group each has, and those of a group side by side."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def narrow(numbers: np.ndarray, limit: int) -> np.ndarray:
    """Integers below `limit` in the fewest bytes that TensorFlow gathers them in."""
    return numbers.astype(np.min_scalar_type(max(limit - 1, 0)) if limit <= 2**16 else np.int32)


class Groups(tf.Module):
    """Members grouped by the number of their group.

    Args:
        groups: The group of each member, integers `[num_members]`.
        num_groups: Number of groups.
        name: Of the variable.
        members: Integers `[num_members, ...]`; their places if None.
    """

    def __init__(
        self, groups: np.ndarray, num_groups: int, name: str, members: np.ndarray | None = None
    ) -> None:
        super().__init__(name=name)
        order = np.argsort(groups, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(groups, minlength=num_groups))
        splits = np.concatenate([[0], ends]).astype(np.int32)
        members = order if members is None else members[order]
        self.members = tf.Variable(members, trainable=False, name=name)
        self.splits = tf.Variable(splits, trainable=False, name=f"{name}_splits")

    def of(self, groups: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The members of groups `[count]`, group after group, and their splits `[count + 1]`."""
        starts, limits = tf.gather(self.splits, groups), tf.gather(self.splits, groups + 1)
        places = tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=np.int32(1))
        return tf.gather(self.members, places.rt_dense_values), places.rt_nested_splits

    @property
    def lengths(self) -> tf.Tensor:
        """int32 `[num_groups]`."""
        return self.splits[1:] - self.splits[:-1]


def numbers_of_rows(lengths: tf.Tensor) -> tf.Tensor:
    """int32 `[sum(lengths)]`: 0 `lengths[0]` times, then 1 `lengths[1]` times, and so on.

    As `tf.repeat`, in ops that grow with the result alone.
    """
    # A row's number is the high half of what a range counts, a value's place in its row the low.
    half = tf.constant(32, tf.int64)
    firsts = tf.bitwise.left_shift(tf.range(tf.size(lengths, tf.int64)), half)
    limits = firsts + tf.cast(lengths, tf.int64)
    ranges = tf.raw_ops.RaggedRange(starts=firsts, limits=limits, deltas=np.int64(1))
    return tf.bitcast(ranges.rt_dense_values, tf.int32)[:, 1]
