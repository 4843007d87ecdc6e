"""Search in two stages: codes find candidates, and the items' embeddings rank them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..codebooks import Distance
from ..neighbours import Neighbours, best_keys, make_keys, missing_keys, read_keys
from ..scan import map_queries
from .storage import Queries, Storage, constant


class Reranked(Storage):
    """Candidates by codes, ranked by the items' embeddings: the scores are those of embeddings.

    Args:
        coarse: The collection, in which candidates are found.
        embeddings: float16 `[num_items, embedding_dim]`, in the form that search compares.
        distance: How scores go by distance; None for inner products.
        num_candidates: Candidates of each query; never fewer than the items wanted.
    """

    def __init__(
        self,
        coarse: Storage,
        embeddings: np.ndarray,
        distance: Distance | None,
        num_candidates: int,
    ) -> None:
        super().__init__(name="reranked")
        self.num_items = coarse.num_items
        self.num_lists = coarse.num_lists
        self.order = coarse.order
        self.coarse = coarse
        # The sum of a single row would go in another order.
        self.num_candidates = max(num_candidates, 2)
        self._distance = distance
        self.embeddings = constant("embeddings", embeddings)

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        found = self.coarse.find(queries, tf.maximum(self.num_candidates, top_k))
        # One at a time: candidates of one query may take as much memory as there is room for.
        own = (queries.embeddings, tf.maximum(found.positions, 0))
        scores = map_queries(self._score, own, nothing=found.scores)
        keys = make_keys(scores, found.positions)
        keys = tf.where(found.positions < 0, missing_keys([]), keys)
        return read_keys(best_keys(keys, top_k))

    def describe(self) -> dict[str, Any]:
        return {
            **self.coarse.describe(),
            "reranked_by": "embeddings",
            "num_candidates": self.num_candidates,
        }

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        return self.coarse.codes_at(positions)

    def _score(self, own: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Scores `[num_candidates]` of a query and the positions of its candidates."""
        query, positions = own
        rows = self.embeddings_at(positions)
        if self._distance is None:
            return tf.reduce_sum(rows * query, axis=1)
        weight, best, _ = self._distance
        distances = tf.reduce_sum(tf.math.squared_difference(rows, query), axis=1)
        return best - weight * distances
