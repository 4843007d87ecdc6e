"""Storages of codes in rows, and the search of those rows alone that a filter admits."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import tensorflow as tf

from ..filters import Admission
from ..lists import ROWS_PER_CHUNK
from ..neighbours import Neighbours, make_keys, missing_keys, read_keys
from ..scan import ITEMS_PER_ADMITTED, apart, map_queries
from ..scoring import score_positions
from .storage import Queries, Storage

# Where a query admits no larger share of the items, these are scored alone. Scattered items take
# longer than those that lie side by side.
LARGEST_SHARE = 1 / ITEMS_PER_ADMITTED


class CodedRows(Storage):
    """Codes in rows: those that a filter admits are scored alone where they are few."""

    @abstractmethod
    def _search(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """As `find`, but a filter is asked for each item that the search comes across."""

    @abstractmethod
    def _look_up(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Codes `[rows, 1]` of each position of a code."""

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        if queries.admits is None:
            return self._search(queries, top_k)
        counts, sets = queries.admits.count_items(), queries.admits.sets
        is_few = counts <= min(int(LARGEST_SHARE * self.num_items), ROWS_PER_CHUNK)
        # Nearly every request is one query, or has one filter: it meets no loop.
        is_shared = (tf.size(counts) > 0) & tf.reduce_all(tf.equal(sets, sets[:, :1]))
        found = tf.cond(
            is_shared & tf.reduce_all(is_few) & (tf.reduce_sum(counts) <= ROWS_PER_CHUNK),
            lambda: self._search_rows(queries, top_k),
            apart(lambda: self._search_apart(queries, is_few, top_k)),
        )
        for values in found:
            values.set_shape([None, None if tf.is_tensor(top_k) else top_k])
        return found

    def _search_rows(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """The best of the rows that the first query admits, and each of the others with it."""
        rows, positions = cast(Admission, queries.admits).rows(tf.constant(0))
        codes = self._look_up(rows)
        entries = tf.transpose(queries.tables, [0, 2, 1])
        scores = score_positions(entries, [tf.cast(own, tf.int32) for own in codes])
        keys = make_keys(tf.transpose(scores), positions)
        keys = tf.concat([keys, missing_keys([tf.shape(keys)[0], top_k])], axis=1)
        return read_keys(tf.math.top_k(keys, top_k).values)

    def _search_apart(
        self, queries: Queries, is_few: tf.Tensor, top_k: int | tf.Tensor
    ) -> Neighbours:
        """Queries that admit few items one by one, and the others by `_search`."""
        few, many = (tf.where(chosen)[:, 0] for chosen in (is_few, ~is_few))

        def search_rows(number: tf.Tensor) -> Neighbours:
            found = self._search_rows(queries.of(tf.expand_dims(number, 0)), top_k)
            return Neighbours(*(values[0] for values in found))

        found_few = map_queries(search_rows, few, read_keys(missing_keys([0, top_k])))
        found_many = self._search(queries.of(many), top_k)
        places = [tf.cast(own, tf.int32) for own in (few, many)]
        return Neighbours(
            *(tf.dynamic_stitch(places, pair) for pair in zip(found_few, found_many, strict=True))
        )
