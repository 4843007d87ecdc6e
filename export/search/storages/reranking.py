"""Search in two stages: codes find candidates, and more of each item than that ranks them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import tensorflow as tf

from ..codebooks import Distance
from ..neighbours import Neighbours, best_keys, make_keys, missing_keys, read_keys
from ..scan import map_queries
from ..scoring import pack_codes, score_positions, unpack_codes
from .storage import Queries, Storage, constant


class _Reranked(Storage):
    """Candidates of a coarse storage, ranked anew.

    Args:
        coarse: The collection, in which candidates are found.
        num_candidates: Candidates of each query; never fewer than the items wanted.
    """

    reranked_by: str

    def __init__(self, coarse: Storage, num_candidates: int) -> None:
        super().__init__(name="reranked")
        self.num_items = coarse.num_items
        self.num_lists = coarse.num_lists
        self.order = coarse.order
        self.coarse = coarse
        self.num_candidates = num_candidates

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        wanted = tf.maximum(self.num_candidates, top_k)
        found = self.coarse.find(self._find_with(queries), wanted)
        scores = self._score(queries, found._replace(positions=tf.maximum(found.positions, 0)))
        is_missing = found.positions < 0
        keys = tf.where(is_missing, missing_keys([]), make_keys(scores, found.positions))
        return read_keys(best_keys(keys, top_k))

    def describe(self) -> dict[str, Any]:
        return {
            **self.coarse.describe(),
            "reranked_by": self.reranked_by,
            "num_candidates": self.num_candidates,
        }

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        return self.coarse.codes_at(positions)

    def _find_with(self, queries: Queries) -> Queries:
        """What candidates are found with."""
        return queries

    @abstractmethod
    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        """Scores `[queries, num_candidates]` of candidates that have scores by now."""


class RerankedCodes(_Reranked):
    """Candidates by the first code positions, ranked by all: the scores are those of whole codes.

    Args:
        coarse: The collection with the first positions of its codes.
        codes: Whole codes, integers `[num_items, code_length]`.
        num_first: Number of first positions.
        num_candidates: Candidates of each query; never fewer than the items wanted.
    """

    reranked_by = "levels"

    def __init__(
        self, coarse: Storage, codes: np.ndarray, num_first: int, num_candidates: int
    ) -> None:
        super().__init__(coarse, num_candidates)
        self.num_first = num_first
        self.code_dtype = tf.as_dtype(codes.dtype)
        self.words = constant("words", pack_codes(codes[:, num_first:]))

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        fine = unpack_codes(tf.gather(self.words, positions), self.code_dtype)
        return tf.concat([self.coarse.codes_at(positions), tf.cast(fine, tf.int32)], axis=1)

    def _find_with(self, queries: Queries) -> Queries:
        return queries._replace(tables=queries.tables[: self.num_first])

    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        tables = queries.tables[self.num_first :]
        num_queries, num_candidates = tf.unstack(tf.shape(candidates.positions))
        words = tf.gather(self.words, tf.reshape(candidates.positions, [-1, 1]))
        firsts = tf.repeat(tf.range(num_queries) * tables.shape[2], num_candidates)
        firsts = tf.expand_dims(firsts, 1)
        codes = tf.unstack(unpack_codes(words, self.code_dtype), axis=2)
        codes = [tf.cast(own, tf.int32) + firsts for own in codes]
        entries = tf.reshape(tables, [tables.shape[0], -1])
        start = tf.reshape(candidates.scores, [-1])
        scores = score_positions(entries, codes, start)
        return tf.reshape(scores, [num_queries, num_candidates])


class RerankedEmbeddings(_Reranked):
    """Candidates by codes, ranked by the items' embeddings: the scores are those of embeddings.

    Args:
        coarse: The collection.
        embeddings: float16 `[num_items, embedding_dim]`, in the form that search compares.
        distance: How scores go by distance; None for inner products.
        num_candidates: Candidates of each query; never fewer than the items wanted.
    """

    reranked_by = "embeddings"

    def __init__(
        self,
        coarse: Storage,
        embeddings: np.ndarray,
        distance: Distance | None,
        num_candidates: int,
    ) -> None:
        # The sum of a single row would go in another order.
        super().__init__(coarse, max(num_candidates, 2))
        self._distance = distance
        self.embeddings = constant("embeddings", embeddings)

    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        def score_query(own: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            query, positions = own
            rows = self.embeddings_at(positions)
            if self._distance is None:
                return tf.reduce_sum(rows * query, axis=1)
            weight, best, _ = self._distance
            distances = tf.reduce_sum(tf.math.squared_difference(rows, query), axis=1)
            return best - weight * distances

        # One at a time: candidates of one query may take as much memory as there is room for.
        own = (queries.embeddings, candidates.positions)
        return map_queries(score_query, own, nothing=candidates.scores)
