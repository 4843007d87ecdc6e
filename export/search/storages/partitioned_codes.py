"""Codes in inverted lists: a search looks at the lists nearest to the query alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..filters import Admission
from ..groups import narrow, numbers_of_rows
from ..lists import ROWS_PER_BLOCK, Lists, fill_blocks, search_lists
from ..neighbours import Neighbours
from ..scoring import pack_codes, unpack_codes
from .coded_rows import CodedRows
from .partition import Partition
from .storage import Queries, constant


class PartitionedCodes(CodedRows):
    """The codes in lists, each with its centroid.

    Args:
        codes: Integers `[num_items, code_length]`.
        partition: How they are grouped.
        num_probes: Lists that a query looks at.
        margin: By how much the score of a list may miss that of a query's best list, of those that
            the query looks at; None if by any.
    """

    def __init__(
        self,
        codes: np.ndarray,
        partition: Partition,
        num_probes: int,
        margin: float | None = None,
    ) -> None:
        super().__init__(name="partitioned_codes")
        self.margin = margin
        self.num_items = len(codes)
        self.num_probes = num_probes
        self.num_lists = partition.num_lists
        positions, bounds = fill_blocks(partition.order, partition.lengths)
        self.order = positions.reshape(-1)
        self.longest = int(np.diff(bounds).max())
        self.code_dtype = tf.as_dtype(codes.dtype)
        self.words = constant("words", pack_codes(codes[positions]))
        self.positions = constant("positions", positions)
        self.bounds = constant("bounds", bounds)
        self.list_of_item = constant(
            "list_of_item", narrow(partition.list_of_item, partition.num_lists)
        )
        self.rank_vectors = constant("rank_vectors", np.ascontiguousarray(partition.rank_vectors.T))
        self.by_distance = partition.by_distance
        if self.by_distance:
            self.rank_offsets = constant("rank_offsets", partition.rank_offsets)

    def _search(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        list_scores = tf.matmul(queries.embeddings, self.rank_vectors)
        if self.by_distance:
            list_scores -= self.rank_offsets
        num_probes, margin = queries.num_probes, None
        if num_probes is None:
            num_probes, margin = self.num_probes, self.margin
            if queries.admits is not None:
                num_probes, margin = self._count_probes(queries.admits), None
        return search_lists(
            queries.tables,
            list_scores,
            Lists(self.words, self.code_dtype, self.positions, self.bounds, self.longest),
            top_k,
            num_probes,
            queries.admits,
            margin,
        )

    def _count_probes(self, admits: Admission) -> tf.Tensor:
        """Lists that hold as many items that a query admits as `num_probes` hold in all."""
        counts = tf.cast(tf.maximum(admits.count_items(), 1), tf.float64)
        num_probes = tf.math.ceil(self.num_probes * self.num_items / counts)
        return tf.cast(tf.minimum(num_probes, self.num_lists), tf.int32)

    def _look_up(self, rows: tf.Tensor) -> list[tf.Tensor]:
        # Variables that are reshaped first are copied whole. A block is the low half of a number,
        # the place in it the high one: quicker than a stack of the two.
        numbers = tf.cast(rows, tf.int64)
        blocks = tf.bitwise.right_shift(numbers, np.int64(ROWS_PER_BLOCK.bit_length() - 1))
        places = tf.bitwise.bitwise_and(numbers, np.int64(ROWS_PER_BLOCK - 1))
        places = tf.bitcast(blocks + places * 2**32, tf.int32)
        words = tf.expand_dims(tf.gather_nd(self.words, places), 1)
        return tf.unstack(unpack_codes(words, self.code_dtype), axis=2)

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        lists = tf.cast(tf.gather(self.list_of_item, positions), tf.int32)
        starts, limits = tf.unstack(tf.gather(self.bounds, lists), axis=1)
        ranges = tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=np.int64(1))
        blocks = ranges.rt_dense_values
        wanted = tf.gather(positions, numbers_of_rows(limits - starts))
        is_it = tf.equal(tf.gather(self.positions, blocks), wanted[:, tf.newaxis])
        words = tf.boolean_mask(tf.gather(self.words, blocks), is_it)
        return tf.cast(unpack_codes(words, self.code_dtype), tf.int32)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "partitioned",
            "num_lists": self.num_lists,
            "num_probes": self.num_probes,
            **({} if self.margin is None else {"margin": self.margin}),
            **self.report,
        }
