"""Each distinct code once: short codes collide, and a code is scored once for all its items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf

from ..groups import narrow, numbers_of_rows
from ..neighbours import Neighbours, best_keys, make_keys, missing_keys, read_keys
from .storage import Queries, Storage, constant


class CodeGroups(NamedTuple):
    """Items grouped by code, and by tag set where items have tags.

    Attributes:
        codes: Integers `[num_groups, code_length]`; groups come in the order in which their first
            items do.
        positions: int32 `[num_items]`, group after group, ascending within a group.
        splits: int64 `[num_groups + 1]`, where each group begins and ends in `positions`.
        tag_sets: The tag set of each group, `[num_groups]`; None if items have none.
    """

    codes: np.ndarray
    positions: np.ndarray
    splits: np.ndarray
    tag_sets: np.ndarray | None

    @property
    def group_of_item(self) -> np.ndarray:
        """int32 `[num_items]`, the group of each item."""
        groups = np.empty(len(self.positions), np.int32)
        groups[self.positions] = np.repeat(np.arange(len(self.codes)), np.diff(self.splits))
        return groups


def group_codes(codes: np.ndarray, tag_sets: np.ndarray | None = None) -> CodeGroups:
    """Group items with equal codes, and equal tag sets `[num_items]`."""
    columns = [codes] if tag_sets is None else [codes, tag_sets[:, np.newaxis]]
    rows = [np.ascontiguousarray(column).view(np.uint8) for column in columns]
    data = np.concatenate(rows, axis=1)
    kind = pa.binary(data.shape[1])
    keys = pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])
    # Numbers in the order of the first of each.
    group_of_item = keys.dictionary_encode().indices.to_numpy()
    positions = np.argsort(group_of_item, kind="stable").astype(np.int32)
    splits = np.concatenate([[0], np.cumsum(np.bincount(group_of_item))]).astype(np.int64)
    firsts = positions[splits[:-1]]
    return CodeGroups(
        codes[firsts], positions, splits, None if tag_sets is None else tag_sets[firsts]
    )


class DistinctCodes(Storage):
    """A collection with as many rows to score as it has distinct codes.

    `admits` is asked for groups in place of positions.

    Args:
        groups: The collection.
        rows: The codes of the groups, whose items are the groups.
    """

    def __init__(self, groups: CodeGroups, rows: Storage) -> None:
        super().__init__(name="distinct_codes")
        self.num_items = len(groups.positions)
        self.num_lists = rows.num_lists
        self.rows = rows
        self.order = rows.order
        self.positions = constant("positions", groups.positions)
        self.splits = constant("splits", groups.splits)
        self.group_of_item = constant("group_of_item", narrow(groups.group_of_item, rows.num_items))

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """As `Storage` says.

        The best `top_k` groups hold the best items, because each has at least one; of groups with
        equal scores those come first whose first items do, so they hold the first of equal items.
        """
        found = self.rows.find(queries, top_k)
        groups = tf.maximum(found.positions, 0)
        starts = tf.gather(self.splits, groups)
        lengths = tf.gather(self.splits, groups + 1) - starts
        lengths = tf.where(found.positions < 0, tf.zeros([], tf.int64), lengths)
        # Of each group no more than what better scores leave of `top_k`.
        runs = tf.searchsorted(-found.scores, -found.scores, side="left")
        better = tf.gather(tf.cumsum(lengths, axis=1, exclusive=True), runs, batch_dims=1)
        left = tf.maximum(tf.cast(top_k, tf.int64) - better, 0)
        lengths = tf.reshape(tf.minimum(lengths, left), [-1])
        starts = tf.reshape(starts, [-1])
        rows = tf.raw_ops.RaggedRange(starts=starts, limits=starts + lengths, deltas=np.int64(1))
        ends = rows.rt_nested_splits
        scores = tf.gather(tf.reshape(found.scores, [-1]), numbers_of_rows(lengths))
        keys = tf.raw_ops.RaggedTensorToTensor(
            shape=tf.constant([-1, -1], tf.int64),
            values=make_keys(scores, tf.gather(self.positions, rows.rt_dense_values)),
            default_value=missing_keys([]),
            row_partition_tensors=[ends[:: tf.cast(top_k, tf.int32)]],
            row_partition_types=["ROW_SPLITS"],
        )
        keys = tf.concat([keys, missing_keys([tf.shape(keys)[0], top_k])], axis=1)
        return read_keys(best_keys(keys, top_k))

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        groups = tf.cast(tf.gather(self.group_of_item, positions), tf.int32)
        return self.rows.codes_at(groups)

    def describe(self) -> dict[str, Any]:
        rows = self.rows.describe()
        kind = "distinct" if self.num_lists is None else f"{rows['kind']} distinct"
        return {**rows, "kind": kind, "num_codes": self.rows.num_items, **self.report}
