"""A second stage of a search: the best candidates of a coarse search, ranked by finer scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import tensorflow as tf

from ..lists import pack_codes, unpack_codes
from ..neighbours import Neighbours, best_keys, make_keys, missing_keys, read_keys
from ..scan import score_positions
from .storage import Queries, Storage, constant


class RerankedStorage(Storage):
    """A storage whose best candidates are scored again.

    Attributes:
        reranked_by: What they are scored with.

    Args:
        coarse: Finds the candidates.
        num_candidates: Number of candidates of each query; never fewer than the items wanted.
    """

    reranked_by: str

    def __init__(self, coarse: Storage, num_candidates: int) -> None:
        super().__init__(name="reranked")
        self.num_items = coarse.num_items
        self.num_lists = coarse.num_lists
        self.coarse = coarse
        self.num_candidates = num_candidates

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """See `Storage`."""
        count = tf.maximum(self.num_candidates, top_k)
        found = self.coarse.find(self._coarse_queries(queries), count)
        scores = self._score(queries, found._replace(positions=tf.maximum(found.positions, 0)))
        is_missing = found.positions < 0
        keys = tf.where(is_missing, missing_keys([]), make_keys(scores, found.positions))
        return read_keys(best_keys(keys, top_k))

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        """See `Storage`."""
        return self.coarse.codes_at(positions)

    def describe(self) -> dict[str, Any]:
        """See `Storage`."""
        return {
            **self.coarse.describe(),
            "reranked_by": self.reranked_by,
            "num_candidates": self.num_candidates,
        }

    def _coarse_queries(self, queries: Queries) -> Queries:
        """What the candidates are found with."""
        return queries

    @abstractmethod
    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        """Finer scores of candidates `[queries, num_candidates]`."""


class LevelReranking(RerankedStorage):
    """Candidates by the first code positions, ranked by all: the scores are those of whole codes.

    Args:
        coarse: The collection with the first positions of its codes.
        codes: Whole codes, integers `[num_items, code_length]`.
        num_first: Number of first positions.
        num_candidates: See `RerankedStorage`.
    """

    reranked_by = "levels"

    def __init__(
        self, coarse: Storage, codes: np.ndarray, num_first: int, num_candidates: int
    ) -> None:
        super().__init__(coarse, num_candidates)
        self.num_first = num_first
        self.code_dtype = tf.as_dtype(codes.dtype)
        words = pack_codes(codes[:, num_first:])
        self.words = constant("words", words)

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        """See `Storage`."""
        fine = unpack_codes(tf.gather(self.words, positions), self.code_dtype)
        return tf.concat([self.coarse.codes_at(positions), tf.stack(fine, axis=1)], axis=1)

    def _coarse_queries(self, queries: Queries) -> Queries:
        return queries._replace(tables=queries.tables[:, : self.num_first])

    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        tables = queries.tables[:, self.num_first :]
        num_queries, num_candidates = tf.unstack(tf.shape(candidates.positions))
        words = tf.gather(self.words, tf.reshape(candidates.positions, [-1]))
        firsts = tf.repeat(tf.range(num_queries) * tables.shape[2], num_candidates)
        numbers = [codes + firsts for codes in unpack_codes(words, self.code_dtype)]
        entries = tf.reshape(tf.transpose(tables, [1, 0, 2]), [tables.shape[1], -1])
        start = tf.reshape(candidates.scores, [-1])
        scores = score_positions(entries, numbers, start)
        return tf.reshape(scores, [num_queries, num_candidates])


class EmbeddingReranking(RerankedStorage):
    """Candidates by their codes, ranked by stored embeddings of half precision.

    Args:
        coarse: The collection.
        embeddings: `[num_items, embedding_dim]`, in the form that search compares.
        num_candidates: See `RerankedStorage`.
    """

    reranked_by = "embeddings"

    def __init__(self, coarse: Storage, embeddings: np.ndarray, num_candidates: int) -> None:
        super().__init__(coarse, num_candidates)
        self.embeddings = constant("embeddings", embeddings.astype(np.float16))

    def _score(self, queries: Queries, candidates: Neighbours) -> tf.Tensor:
        def score_one(query: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            embedding, positions = query
            embeddings = tf.cast(tf.gather(self.embeddings, positions), tf.float32)
            return tf.linalg.matvec(embeddings, embedding)

        # One query at a time: the candidates of all would be large.
        return tf.map_fn(
            score_one,
            (queries.embeddings, candidates.positions),
            fn_output_signature=tf.TensorSpec([None], tf.float32),
            parallel_iterations=1,
        )
