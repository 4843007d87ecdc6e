"""Average precision and recall@k of rankings with ties, as expected values over tie orders.

Short codes tie massively: a 12-bit code ranks a million items in at most 4096 groups. Breaking ties
by position would make the figure depend on the order of the collection, so each function returns
the mean over all orders of the tied items, in closed form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class _TieGroups(NamedTuple):
    """Groups of equally scored items, best first; each field is float64 `[num_groups]`."""

    before: np.ndarray  # items ranked before the group
    size: np.ndarray
    relevant_before: np.ndarray
    relevant: np.ndarray


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
    scores, relevance = _checked(scores, relevance, cutoff)
    if cutoff is None or cutoff >= scores.shape[1]:
        return np.array([_full(_group_ties(*row)) for row in zip(scores, relevance, strict=True)])
    return np.array(
        [_truncated(_group_ties(*row), cutoff) for row in zip(scores, relevance, strict=True)]
    )


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
    scores, relevance = _checked(scores, relevance, k)
    k = min(k, scores.shape[1])
    return np.array([_recall(_group_ties(*row), k) for row in zip(scores, relevance, strict=True)])


def _checked(
    scores: np.ndarray, relevance: np.ndarray, cutoff: int | None
) -> tuple[np.ndarray, np.ndarray]:
    scores, relevance = np.asarray(scores), np.asarray(relevance).astype(bool)
    if scores.ndim != 2 or scores.shape != relevance.shape:
        raise ValueError(
            "scores and relevance must both have shape [queries, items]. "
            f"Received: {scores.shape} and {relevance.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN. Received: NaN, which has no place in a ranking")
    if cutoff is not None and cutoff < 1:
        raise ValueError(f"The number of ranks must be at least 1. Received: {cutoff}")
    return scores, relevance


def _group_ties(scores: np.ndarray, relevance: np.ndarray) -> _TieGroups:
    order = np.argsort(-scores)
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]][: len(ranked)])
    relevant = (
        np.add.reduceat(relevance[order].astype(np.float64), starts) if len(starts) else starts
    )
    return _TieGroups(
        before=starts.astype(np.float64),
        size=np.diff(np.r_[starts, len(ranked)]).astype(np.float64),
        relevant_before=np.cumsum(relevant) - relevant,
        relevant=relevant,
    )


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


def _full(groups: _TieGroups) -> float:
    total = groups.relevant.sum()
    if not total:
        return 0.0
    return float(_expected_precision_sum(*groups).sum() / total)


def _split_at(groups: _TieGroups, cutoff: int) -> tuple[_TieGroups, _TieGroups, int]:
    """Groups wholly within the cutoff, the group it cuts, and how many of that group's ranks."""
    cut = int(np.searchsorted(groups.before + groups.size, cutoff, side="right"))
    inside = _TieGroups(*(field[:cut] for field in groups))
    boundary = _TieGroups(*(field[cut : cut + 1] for field in groups))
    return inside, boundary, cutoff - int(inside.size.sum())


def _truncated(groups: _TieGroups, cutoff: int) -> float:
    inside, boundary, room = _split_at(groups, cutoff)
    found = inside.relevant.sum()
    precisions = _expected_precision_sum(*inside).sum()
    if not room:
        return float(precisions / found) if found else 0.0
    # Given that j relevant items of the cut group fall within the cutoff, its first `room` ranks
    # are a group of their own with j relevant items.
    j, chances = _hypergeometric(int(boundary.size[0]), int(boundary.relevant[0]), room)
    partial = _expected_precision_sum(
        boundary.before, np.full(len(j), float(room)), boundary.relevant_before, j
    )
    return float((chances * (precisions + partial) / np.maximum(found + j, 1.0)).sum())


def _recall(groups: _TieGroups, k: int) -> float:
    inside, boundary, room = _split_at(groups, k)
    if inside.relevant.sum() or not room:
        return float(inside.relevant.sum() > 0)
    j, chances = _hypergeometric(int(boundary.size[0]), int(boundary.relevant[0]), room)
    return float(chances[j > 0].sum())


def _hypergeometric(size: int, relevant: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Possible numbers of relevant items among `draws` of `size`, and their probabilities."""
    j = np.arange(max(0, draws - (size - relevant)), min(relevant, draws) + 1)
    log_factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, size + 1)))]

    def log_choose(n: int, k: np.ndarray | int) -> np.ndarray:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    logs = (
        log_choose(relevant, j) + log_choose(size - relevant, draws - j) - log_choose(size, draws)
    )
    chances = np.exp(logs)
    return j.astype(np.float64), chances / chances.sum()


def _harmonic(n: np.ndarray) -> np.ndarray:
    """Harmonic numbers of whole non-negative floats, exact to double precision."""
    n = np.asarray(n, dtype=np.int64)
    table = np.r_[0.0, np.cumsum(1.0 / np.arange(1, int(n.max(initial=0)) + 1))]
    return table[n]
