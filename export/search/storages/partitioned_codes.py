"""Codes in inverted lists: a search looks at the lists nearest to the query alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..codebooks import Distance
from ..item_ids import first_positions
from ..lists import Lists, pack_codes, search_lists, unpack_codes
from ..neighbours import Neighbours
from .partition import Partition
from .storage import Queries, Storage, constant


class PartitionedCodes(Storage):
    """The codes in lists, each with its centroid.

    Args:
        codes: Integers `[num_items, code_length]`.
        partition: How they are grouped.
        num_probes: Lists that a query looks at.
        exact: Whether the search goes on until no list that it has not looked at can hold an item
            that belongs into the result.
        report: See `Storage`.
        distance: How scores go by distance, where the partition does.
        excess: By how much a score exceeds that of the exact distance, at most.
    """

    def __init__(
        self,
        codes: np.ndarray,
        partition: Partition,
        num_probes: int,
        exact: bool = False,
        report: dict[str, Any] | None = None,
        distance: Distance | None = None,
        excess: float = 0.0,
    ) -> None:
        super().__init__(name="partitioned_codes")
        self.num_items = len(codes)
        self.num_probes = num_probes
        self.exact = exact
        self.report = dict(report or {})
        self.longest = int(partition.lengths.max())
        self.num_lists = partition.num_lists
        self.code_dtype = tf.as_dtype(codes.dtype)
        self.words = constant("words", pack_codes(codes[partition.order]))
        self.positions = constant("positions", partition.order)
        self.splits = constant("splits", partition.splits)
        self.rank_vectors = constant("rank_vectors", np.ascontiguousarray(partition.rank_vectors.T))
        self._distance, self._excess = distance, excess
        self.norm_bound = partition.norm_bound
        # Twelve roundings for each product and sum are more than any of the steps that lead to a
        # score, a radius or a bound has.
        dim = partition.centroids.shape[1]
        self._rounding = 12 * (dim + codes.shape[1]) * np.finfo(np.float32).epsneg
        if distance is not None:
            self.rank_offsets = constant("rank_offsets", partition.rank_offsets)
        self.norms = constant("norms", partition.norms)
        self.radii = constant("radii", partition.radii)

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        list_scores = tf.matmul(queries.embeddings, self.rank_vectors)
        if self._distance is not None:
            list_scores -= self.rank_offsets
        bounds = None
        # A filter may leave few items: the search goes on until these are the best.
        if self.exact or queries.admits is not None:
            bounds = self._bound(queries.embeddings, list_scores)
        return search_lists(
            queries.tables,
            list_scores,
            Lists(self.words, self.code_dtype, self.positions, self.splits, self.longest),
            top_k,
            self.num_probes if queries.num_probes is None else queries.num_probes,
            bounds,
            queries.admits,
        )

    def _bound(self, embeddings: tf.Tensor, list_scores: tf.Tensor) -> tf.Tensor:
        """What no item of a list scores more than, however sums round: `[queries, num_lists]`."""
        length = tf.norm(embeddings, axis=1, keepdims=True)
        if self._distance is None:
            slack = self._rounding * self.norm_bound * length
            return list_scores * self.norms + length * self.radii + slack
        squared = tf.maximum(tf.square(length) - 2.0 * list_scores, 0.0)
        nearest = tf.maximum(tf.sqrt(squared) - self.radii, 0.0)
        weight, constant_score, _ = self._distance
        slack = self._excess + self._rounding * weight * tf.square(length + self.norm_bound)
        return constant_score - weight * tf.square(nearest) + slack

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        rows = first_positions(self.positions, positions)
        codes = unpack_codes(tf.gather(self.words, rows), self.code_dtype)
        return tf.cast(tf.squeeze(codes, 1), tf.int32)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "partitioned",
            "num_lists": self.num_lists,
            "num_probes": self.num_probes,
            "exact": self.exact,
            **self.report,
        }
