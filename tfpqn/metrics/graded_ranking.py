"""NDCG of rankings with ties, as the expected value over tie orders.

Where items have several labels, one that shares three with the query is worth more than one that
shares a single one. Each such worth is a gain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfpqn.metrics.ranking import require_ranks, require_scores


def ndcg(scores: np.ndarray, gains: np.ndarray, cutoff: int | None = None) -> np.ndarray:
    """Expected normalized discounted cumulative gain of each query over the orders of tied items.

    The gain at rank r counts 1 / log2(r + 1), and the sum is divided by that of the best order, so
    only the proportions of a query's gains matter: the number of shared labels serves as well as
    their share among the query's labels. A query whose gains are all zero has 0.

    Args:
        scores: Float array `[queries, items]`, larger is nearer.
        gains: Array `[queries, items]`, at least zero.
        cutoff: Number of ranks looked at; None for the full ranking.

    Returns:
        float64 array `[queries]`; its mean is the NDCG.

    Raises:
        ValueError: Shapes differ, scores hold NaN, a gain is negative or not finite, or the cutoff
            is below 1.

    References:
        Jarvelin, Kekalainen: "Cumulated Gain-Based Evaluation of IR Techniques", TOIS 2002.
        McSherry, Najork: "Computing Information Retrieval Performance Measures Efficiently in the
        Presence of Tied Scores", ECIR 2008.
    """
    return np.array([ranking.ndcg(cutoff) for ranking in rank_gains(scores, gains)])


class GradedRanking(NamedTuple):
    """The items of one query in groups of equal score, best first.

    Attributes:
        size: int64 `[num_groups]`, items in the group.
        gain: float64 `[num_groups]`, sum of the gains in the group.
        best_gains: float64, the gains above zero, the largest first.
    """

    size: np.ndarray
    gain: np.ndarray
    best_gains: np.ndarray

    def ndcg(self, cutoff: int | None = None) -> float:
        """See `tfpqn.metrics.ndcg`."""
        require_ranks(cutoff)
        num_items = int(self.size.sum())
        num_ranks = num_items if cutoff is None else min(cutoff, num_items)
        discounts = 1.0 / np.log2(np.arange(2, num_ranks + 2))
        best = self.best_gains[:num_ranks]
        if not len(best):
            return 0.0
        # At each rank of a group the mean of its gains is expected.
        ends = np.minimum(np.cumsum(self.size), num_ranks)
        discount_sums = np.r_[0.0, np.cumsum(discounts)]
        weights = np.diff(discount_sums[ends], prepend=0.0)
        return float(self.gain / self.size @ weights / (best @ discounts[: len(best)]))


def rank_gains(scores: np.ndarray, gains: np.ndarray) -> list[GradedRanking]:
    """Sort each query's items once, for any number of cutoffs.

    Args:
        scores: Float array `[queries, items]`, larger is nearer.
        gains: Array `[queries, items]`, at least zero.

    Returns:
        One `GradedRanking` a query.

    Raises:
        ValueError: Shapes differ, scores hold NaN, or a gain is negative or not finite.
    """
    scores, gains = np.asarray(scores), np.asarray(gains, np.float64)
    require_scores(scores, gains, "gains")
    wrong = gains[~(np.isfinite(gains) & (gains >= 0))]
    if len(wrong):
        raise ValueError(f"gains must be finite and at least 0. Received: {wrong[0]}")
    return [_group_gains(*row) for row in zip(scores, gains, strict=True)]


def _group_gains(scores: np.ndarray, gains: np.ndarray) -> GradedRanking:
    _, groups, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    gain = np.bincount(groups, weights=gains, minlength=len(sizes))
    return GradedRanking(sizes[::-1], gain[::-1], np.sort(gains[gains > 0])[::-1])
