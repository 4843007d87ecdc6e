"""Storages of codes in rows, and the search of those rows alone that a filter admits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import tensorflow as tf

from ..filters import Admission
from ..lists import ROWS_PER_CHUNK
from ..neighbours import Neighbours, make_keys, missing_keys, read_keys
from ..scan import apart
from ..scoring import score_positions
from .storage import Queries, Storage

# Where a query admits no larger share of the items, these are scored alone. Scattered items take
# longer than those that lie side by side.
LARGEST_SHARE = 1 / 8


class CodedRows(Storage):
    """Codes in rows: those that a filter admits are scored alone where they are few."""

    @abstractmethod
    def _search(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """As `find`, but a filter is asked for each item that the search comes across."""

    @abstractmethod
    def _look_up(self, rows: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Codes `[rows, 1]` of each position of a code, and positions int32 `[rows]` of items."""

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        if queries.admits is None:
            return self._search(queries, top_k)
        is_few = queries.admits.count_items() <= min(
            int(LARGEST_SHARE * self.num_items), ROWS_PER_CHUNK
        )
        search_rows = partial(self._search_rows, queries.tables, queries.admits, top_k)
        # Nearly every request is one query: it meets no loop.
        found = tf.cond(
            tf.reduce_all(is_few) & tf.equal(tf.size(is_few), 1),
            lambda: Neighbours(*(tf.expand_dims(own, 0) for own in search_rows(tf.constant(0)))),
            apart(lambda: self._search_apart(queries, is_few, top_k, search_rows)),
        )
        for values in found:
            values.set_shape([None, None if tf.is_tensor(top_k) else top_k])
        return found

    def _search_rows(
        self, tables: tf.Tensor, admits: Admission, top_k: int | tf.Tensor, query: tf.Tensor
    ) -> Neighbours:
        """The best `[top_k]` of the rows that one query admits."""
        codes, positions = self._look_up(admits.rows(query))
        scores = score_positions(tables[:, query], [tf.cast(own, tf.int32) for own in codes])
        keys = tf.concat([make_keys(scores, positions), missing_keys([top_k])], axis=0)
        return read_keys(tf.math.top_k(keys, top_k).values)

    def _search_apart(
        self,
        queries: Queries,
        is_few: tf.Tensor,
        top_k: int | tf.Tensor,
        search_rows: Callable[[tf.Tensor], Neighbours],
    ) -> Neighbours:
        """Queries that admit few items one by one, and the others by `_search`."""
        width = None if tf.is_tensor(top_k) else top_k
        few, many = (tf.where(chosen)[:, 0] for chosen in (is_few, ~is_few))
        spec = Neighbours(tf.TensorSpec([width], tf.float32), tf.TensorSpec([width], tf.int32))

        def unless_empty(numbers: tf.Tensor, search: Callable[[], Neighbours]) -> Neighbours:
            nothing = Neighbours(tf.zeros([0, top_k]), tf.zeros([0, top_k], tf.int32))
            return tf.cond(tf.size(numbers) > 0, search, lambda: nothing)

        found_few = unless_empty(few, lambda: tf.map_fn(search_rows, few, fn_output_signature=spec))
        found_many = unless_empty(many, lambda: self._search(queries.of(many), top_k))
        places = [tf.cast(own, tf.int32) for own in (few, many)]
        return Neighbours(
            *(tf.dynamic_stitch(places, pair) for pair in zip(found_few, found_many, strict=True))
        )
