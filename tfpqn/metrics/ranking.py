"""Average precision and recall@k of rankings with ties, as expected values over tie orders.

Short codes tie massively: a 12-bit code ranks a million items in at most 4096 groups. Breaking ties
by position would make the figure depend on the order of the collection, so each figure here is the
mean over all orders of the tied items, in closed form.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np


def average_precision(
    scores: np.ndarray, relevance: np.ndarray, cutoff: int | None = None
) -> np.ndarray:
    """Expected average precision of each query over the orders of tied items.

    Without a cutoff, the precision at each relevant item is averaged over all relevant items. With
    one, over the relevant items among the first `cutoff` (the convention of the hashing papers'
    mAP@R). A query without a relevant item there has 0.

    Args:
        scores: Float array `[queries, items]`, larger is nearer.
        relevance: Boolean array `[queries, items]`.
        cutoff: Number R of ranks looked at; None for the full ranking.

    Returns:
        float64 array `[queries]`; its mean is the mAP.

    Raises:
        ValueError: Shapes differ, scores hold NaN, or the cutoff is below 1.

    Reference:
        McSherry, Najork: "Computing Information Retrieval Performance Measures Efficiently in the
        Presence of Tied Scores", ECIR 2008.
    """
    rankings = rank_items(scores, relevance)
    return np.array([ranking.average_precision(cutoff) for ranking in rankings])


def recall_at_k(scores: np.ndarray, relevance: np.ndarray, k: int) -> np.ndarray:
    """Probability of each query to have a relevant item among its first k, over tie orders.

    Args:
        scores: Float array `[queries, items]`, larger is nearer.
        relevance: Boolean array `[queries, items]`.
        k: Number of ranks looked at, at least 1.

    Returns:
        float64 array `[queries]`; its mean is recall@k.

    Raises:
        ValueError: Shapes differ, scores hold NaN, or k is below 1.
    """
    return np.array([ranking.recall(k) for ranking in rank_items(scores, relevance)])


class Ranking(NamedTuple):
    """The items of one query in groups of equal score, best first.

    Attributes:
        before: float64 `[num_groups]`, items ranked before the group.
        size: float64 `[num_groups]`, items in the group.
        relevant_before: float64 `[num_groups]`, relevant items ranked before the group.
        relevant: float64 `[num_groups]`, relevant items in the group.
    """

    before: np.ndarray
    size: np.ndarray
    relevant_before: np.ndarray
    relevant: np.ndarray

    def average_precision(self, cutoff: int | None = None) -> float:
        """See `tfpqn.metrics.average_precision`."""
        require_ranks(cutoff)
        if cutoff is not None and cutoff < self.size.sum():
            return self._truncated_average_precision(cutoff)
        total = self.relevant.sum()
        return float(_expected_precision_sum(*self).sum() / total) if total else 0.0

    def recall(self, k: int) -> float:
        """See `tfpqn.metrics.recall_at_k`."""
        require_ranks(k)
        inside, boundary, room = self._split(k)
        if inside.relevant.sum() or not room or not len(boundary.size):
            return float(inside.relevant.sum() > 0)
        j, chances = _hypergeometric(int(boundary.size[0]), int(boundary.relevant[0]), room)
        return float(chances[j > 0].sum())

    def _truncated_average_precision(self, cutoff: int) -> float:
        inside, boundary, room = self._split(cutoff)
        found = inside.relevant.sum()
        precisions = _expected_precision_sum(*inside).sum()
        if not room:
            return float(precisions / found) if found else 0.0
        # Given that j relevant items of the cut group fall within the cutoff, its first `room`
        # ranks are a group of their own with j relevant items.
        j, chances = _hypergeometric(int(boundary.size[0]), int(boundary.relevant[0]), room)
        partial = _expected_precision_sum(
            boundary.before, np.full(len(j), float(room)), boundary.relevant_before, j
        )
        return float((chances * (precisions + partial) / np.maximum(found + j, 1.0)).sum())

    def _split(self, cutoff: int) -> tuple[Ranking, Ranking, int]:
        """Groups wholly within the cutoff, the group it cuts, and how many of its ranks."""
        cut = int(np.searchsorted(self.before + self.size, cutoff, side="right"))
        inside = Ranking(*(field[:cut] for field in self))
        boundary = Ranking(*(field[cut : cut + 1] for field in self))
        return inside, boundary, cutoff - int(inside.size.sum())


def rank_items(scores: np.ndarray, relevance: np.ndarray) -> list[Ranking]:
    """Sort each query's items once, for any number of figures.

    Args:
        scores: Float array `[queries, items]`, larger is nearer.
        relevance: Boolean array `[queries, items]`.

    Returns:
        One `Ranking` a query.

    Raises:
        ValueError: Shapes differ or scores hold NaN.
    """
    scores, relevance = np.asarray(scores), np.asarray(relevance).astype(bool)
    require_scores(scores, relevance, "relevance")
    return [_group_ties(*row) for row in zip(scores, relevance, strict=True)]


def _group_ties(scores: np.ndarray, relevance: np.ndarray) -> Ranking:
    # Values are sorted several times faster than positions, and positions are of no use here.
    ascending = np.sort(scores)
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]][: len(ascending)])
    groups = np.searchsorted(ascending[starts], np.sort(scores[relevance]))
    relevant = np.bincount(groups, minlength=len(starts))[::-1].astype(np.float64)
    size = np.diff(np.r_[starts, len(ascending)])[::-1].astype(np.float64)
    return Ranking(
        before=np.cumsum(size) - size,
        size=size,
        relevant_before=np.cumsum(relevant) - relevant,
        relevant=relevant,
    )


def require_scores(scores: np.ndarray, others: np.ndarray, name: str) -> None:
    """Raises ValueError unless scores, and what is known of their items, can be ranked."""
    if scores.ndim != 2 or scores.shape != others.shape:
        raise ValueError(
            f"scores and {name} must both have shape [queries, items]. "
            f"Received: {scores.shape} and {others.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN. Received: NaN, which has no place in a ranking")


def require_ranks(count: int | None) -> None:
    """Raises ValueError if a number of ranks is given that is no such number."""
    if count is not None and count < 1:
        raise ValueError(f"The number of ranks must be at least 1. Received: {count}")


def _expected_precision_sum(
    before: np.ndarray, size: np.ndarray, relevant_before: np.ndarray, relevant: np.ndarray
) -> np.ndarray:
    """Expected sum of the precisions at a group's relevant items.

    Rank i of the group (1 .. size) holds a relevant item with probability relevant / size; given
    that, each earlier rank of the group holds one with probability (relevant - 1) / (size - 1).
    Summed over i, with H the harmonic numbers:
    """
    first = _harmonic(before + size) - _harmonic(before)  # sum of 1 / (before + i)
    second = size - (before + 1.0) * first  # sum of (i - 1) / (before + i)
    slope = (relevant - 1.0) / np.maximum(size - 1.0, 1.0)
    return relevant / size * ((relevant_before + 1.0) * first + slope * second)


def _hypergeometric(size: int, relevant: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Possible numbers of relevant items among `draws` of `size`, and their probabilities."""
    j = np.arange(max(0, draws - (size - relevant)), min(relevant, draws) + 1)
    log_factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, size + 1)))]

    def log_choose(n: int, k: np.ndarray) -> np.ndarray:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    logs = log_choose(relevant, j) + log_choose(size - relevant, draws - j)
    chances = np.exp(logs - logs.max())
    return j.astype(np.float64), chances / chances.sum()


def _harmonic(n: np.ndarray) -> np.ndarray:
    """Harmonic numbers of whole non-negative floats."""
    whole = np.asarray(n, dtype=np.int64)
    return _harmonic_table(_round_up(int(whole.max(initial=0))))[whole]


@functools.lru_cache(maxsize=8)
def _harmonic_table(largest: int) -> np.ndarray:
    return np.r_[0.0, np.cumsum(1.0 / np.arange(1, largest + 1))]


def _round_up(n: int) -> int:
    """The next power of two, so that few tables serve all queries."""
    return 1 << max(n, 1).bit_length()
