"""What a network finds for a sample of the queries: the material of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tfpqn.datasets import Splits
from tfpqn.metrics import Ranking, rank_items
from tfpqn.protocols import NetworkLike, QuantizerLike

from ..encoding import Encoded, encode_set, keep_labelled, sample_queries
from ..evaluation import (
    evaluate_encoded,
    find_nearest,
    query_blocks,
    relevance_blocks,
    score_both,
)

# Queries that a report asks.
MOST_QUERIES = 1000
# Items found for each query that are looked at.
NUM_FOUND = 10
# Recalls at which precision is given: 0, 0.01, .. 1.
RECALLS = np.linspace(0.0, 1.0, 101)


class Findings(NamedTuple):
    """Queries, what was found for them, and how right that is.

    An item is right if it shares a label with the query. Where labels tell nothing, it is right if
    it is among the `NUM_FOUND` items that are nearest to the query by raw embeddings.

    Attributes:
        splits: The data, with the sample of the queries.
        figures: What `evaluate` measures, on the sample.
        query: The queries, with labels if labels tell anything.
        database: All items.
        found: int64 `[queries, num_found]`, rows of `database`, best first.
        is_right: Boolean `[queries, num_found]`.
        quality: float64 `[queries]`: the average precision, or the share of the found that is
            right.
        precision: Mean precision at each of `RECALLS`, of `codes` and `raw embeddings`: float64
            `[101]`; empty where labels tell nothing.
    """

    splits: Splits
    figures: dict[str, Any]
    query: Encoded
    database: Encoded
    found: np.ndarray
    is_right: np.ndarray
    quality: np.ndarray
    precision: dict[str, np.ndarray]

    @property
    def goes_by_labels(self) -> bool:
        """Whether labels say what is right."""
        return self.figures["not_measured"] is None

    @property
    def can_be_answered(self) -> np.ndarray:
        """Boolean `[queries]`: whether any item is right; then its precision is not 0."""
        return np.asarray((self.quality > 0) | (not self.goes_by_labels))


def find(network: NetworkLike, splits: Splits, most_queries: int = MOST_QUERIES) -> Findings:
    """Search the database for a sample of the queries, as serving does, and judge what is found.

    Args:
        network: A `ProductQuantizationNetwork`.
        splits: `query` and `database` are used.
        most_queries: Of more queries so many are asked, evenly spread.

    Raises:
        ValueError: The items do not fit the network, none is readable, or an embedding is not
            finite.
    """
    network.require_item_shape(splits.query.item_shape)
    splits = sample_queries(splits, most_queries)
    quantizer = network.quantizer
    query, database = encode_set(network, splits.query), encode_set(network, splits.database)
    figures = evaluate_encoded(quantizer, query, database)
    if figures["not_measured"]:
        blocks, precision = _judge_by_neighbours(quantizer, query, database), {}
        found, is_right, quality = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    else:
        query = keep_labelled(query)
        blocks = _judge_by_labels(quantizer, query, database)
        found, is_right, quality, *curves = (
            np.concatenate(parts) for parts in zip(*blocks, strict=True)
        )
        names = ("codes", "raw embeddings")
        precision = {name: curve.mean(0) for name, curve in zip(names, curves, strict=True)}
    return Findings(splits, figures, query, database, found, is_right, quality, precision)


def _judge_by_labels(
    quantizer: QuantizerLike, query: Encoded, database: Encoded
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields found, is_right, quality and both precisions of a block of queries."""
    by_codes, by_embeddings = score_both(quantizer, query.embeddings, database)
    for rows, relevance in relevance_blocks(query.labels, database.labels):
        scores = by_codes(rows)
        found = find_nearest(scores, NUM_FOUND)
        rankings = rank_items(scores, relevance)
        yield (
            found,
            np.take_along_axis(relevance, found, axis=1),
            np.array([ranking.average_precision() for ranking in rankings]),
            np.array([precision_at_recalls(ranking) for ranking in rankings]),
            np.array(
                [precision_at_recalls(raw) for raw in rank_items(by_embeddings(rows), relevance)]
            ),
        )


def _judge_by_neighbours(
    quantizer: QuantizerLike, query: Encoded, database: Encoded
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields found, is_right and quality of a block of queries."""
    by_codes, by_embeddings = score_both(quantizer, query.embeddings, database)
    for rows in query_blocks(len(query.codes), len(database.codes)):
        found, exact = (find_nearest(way(rows), NUM_FOUND) for way in (by_codes, by_embeddings))
        is_right = (found[:, :, None] == exact[:, None, :]).any(axis=2)
        yield found, is_right, is_right.mean(axis=1)


def precision_at_recalls(ranking: Ranking) -> np.ndarray:
    """The best precision of a query at each of `RECALLS`, over the score thresholds that reach it.

    A threshold takes all items of a score or none, so the order of tied items has no part in it.

    Returns:
        float64 `[101]`; zeros if no item is relevant.
    """
    hits = ranking.relevant_before + ranking.relevant
    if not hits[-1]:
        return np.zeros(len(RECALLS))
    precision = hits / (ranking.before + ranking.size)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Rounding must not ask for one hit more.
    return np.asarray(best[np.searchsorted(hits, RECALLS * hits[-1] - 1e-6)])
