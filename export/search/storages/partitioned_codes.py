"""Codes in inverted lists: a search looks at the lists nearest to the query alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..filters import Admission
from ..groups import narrow, numbers_of_rows
from ..lists import ROWS_PER_BLOCK, Lists, fill_blocks, search_lists
from ..neighbours import Neighbours
from ..scoring import add_in_order, negate_rest, pack_codes, unpack_codes
from .coded_rows import CodedRows
from .partition import Partition
from .storage import Queries, constant


class PartitionedCodes(CodedRows):
    """The codes in lists, each with its centroid.

    Args:
        codes: Integers `[num_items, code_length]`.
        partition: How they are grouped.
        num_probes: Lists that a query looks at.
        exact: Whether the search goes on until no list that it has not looked at can hold an item
            that belongs into the result.
        report: See `Storage`.
        margin: By how much the score of a list may miss that of a query's best list, of those that
            the query looks at; None if by any.
    """

    def __init__(
        self,
        codes: np.ndarray,
        partition: Partition,
        num_probes: int,
        exact: bool = False,
        report: dict[str, Any] | None = None,
        margin: float | None = None,
    ) -> None:
        super().__init__(name="partitioned_codes")
        self.margin = margin
        self.num_items = len(codes)
        self.num_probes = num_probes
        self.exact = exact
        self.report = dict(report or {})
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
        if exact:
            self._keep_codewords(codes, partition)

    def _keep_codewords(self, codes: np.ndarray, partition: Partition) -> None:
        """The codewords that the items of each list have at each position, for `_bound`.

        They are held as places in a table of all positions.
        """
        code_length = codes.shape[1]
        self.table_width = int(codes.max()) + 1
        places, counts = [], []
        for rows in np.split(partition.order, partition.splits[1:-1]):
            own = np.unique(codes[rows] + np.arange(code_length) * self.table_width)
            places.append(narrow(own, code_length * self.table_width))
            counts.append(np.bincount(own // self.table_width, minlength=code_length))
        self.places = constant("places", np.concatenate(places))
        self.place_counts = constant("place_counts", np.concatenate(counts).astype(np.int32))

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
            self._bound(queries.tables) if self.exact else None,
            queries.admits,
            margin,
        )

    def _count_probes(self, admits: Admission) -> tf.Tensor:
        """Lists that hold as many items that a query admits as `num_probes` hold in all."""
        counts = tf.cast(tf.maximum(admits.count_items(), 1), tf.float64)
        num_probes = tf.math.ceil(self.num_probes * self.num_items / counts)
        return tf.cast(tf.minimum(num_probes, self.num_lists), tf.int32)

    def _bound(self, tables: tf.Tensor) -> tf.Tensor:
        """What no item of a list scores more than: float32 `[queries, num_lists]`.

        The sums of the best entries at each position, of those that items of the list have. They
        are summed as scores are, so no score is rounded to more.
        """
        code_length = tables.shape[0]
        places = tf.expand_dims(tf.cast(self.places, tf.int32), 1)
        owners = numbers_of_rows(self.place_counts)

        def bound(query: tf.Tensor) -> tf.Tensor:
            entries = tf.reshape(tables[:, query, : self.table_width], [-1])
            best = tf.math.segment_max(tf.gather_nd(entries, places), owners)
            best = tf.transpose(tf.reshape(best, [self.num_lists, code_length]))
            return add_in_order(tf.unstack(negate_rest(best)))

        return tf.map_fn(
            bound,
            tf.range(tf.shape(tables)[1]),
            fn_output_signature=tf.TensorSpec([self.num_lists], tf.float32),
        )

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
            "exact": self.exact,
            **({} if self.margin is None else {"margin": self.margin}),
            **self.report,
        }
