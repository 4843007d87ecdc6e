"""Search in two stages: the first code positions find candidates, and whole codes rank them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..lists import pack_codes, unpack_codes
from ..neighbours import Neighbours, best_keys, make_keys, missing_keys, read_keys
from ..scan import score_positions
from .storage import Queries, Storage, constant


class RerankedCodes(Storage):
    """Candidates by the first code positions, ranked by all: the scores are those of whole codes.

    Args:
        coarse: The collection with the first positions of its codes.
        codes: Whole codes, integers `[num_items, code_length]`.
        num_first: Number of first positions.
        num_candidates: Candidates of each query; never fewer than the items wanted.
    """

    def __init__(
        self, coarse: Storage, codes: np.ndarray, num_first: int, num_candidates: int
    ) -> None:
        super().__init__(name="reranked")
        self.num_items = coarse.num_items
        self.num_lists = coarse.num_lists
        self.coarse = coarse
        self.num_first = num_first
        self.num_candidates = num_candidates
        self.code_dtype = tf.as_dtype(codes.dtype)
        self.words = constant("words", pack_codes(codes[:, num_first:]))

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        first = queries._replace(tables=queries.tables[: self.num_first])
        found = self.coarse.find(first, tf.maximum(self.num_candidates, top_k))
        candidates = found._replace(positions=tf.maximum(found.positions, 0))
        scores = self._score(queries.tables[self.num_first :], candidates)
        is_missing = found.positions < 0
        keys = tf.where(is_missing, missing_keys([]), make_keys(scores, found.positions))
        return read_keys(best_keys(keys, top_k))

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        fine = unpack_codes(tf.gather(self.words, positions), self.code_dtype)
        fine = tf.cast(tf.squeeze(fine, 1), tf.int32)
        return tf.concat([self.coarse.codes_at(positions), fine], axis=1)

    def describe(self) -> dict[str, Any]:
        return {
            **self.coarse.describe(),
            "reranked_by": "levels",
            "num_candidates": self.num_candidates,
        }

    def _score(self, tables: tf.Tensor, candidates: Neighbours) -> tf.Tensor:
        """Scores `[queries, num_candidates]` by all positions, of those by the first."""
        num_queries, num_candidates = tf.unstack(tf.shape(candidates.positions))
        words = tf.gather(self.words, tf.reshape(candidates.positions, [-1]))
        firsts = tf.repeat(tf.range(num_queries) * tables.shape[2], num_candidates)
        firsts = tf.expand_dims(firsts, 1)
        codes = tf.unstack(unpack_codes(words, self.code_dtype), axis=2)
        codes = [tf.cast(own, tf.int32) + firsts for own in codes]
        entries = tf.reshape(tables, [tables.shape[0], -1])
        start = tf.reshape(candidates.scores, [-1])
        scores = score_positions(entries, codes, start)
        return tf.reshape(scores, [num_queries, num_candidates])
