"""How many lists, and how many of them to look at: chosen by measurement on queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .partition import Partition

# So many lists are tried for a collection, in multiples of the square root of its size; the last
# alone for a collection whose parting takes minutes. Too few are worse than too many: a list that
# spans several clusters is ranked by none of them.
LISTS_PER_ROOT = (1, 2)
LARGE_COLLECTION = 2**22
# Smaller collections are scanned as fast as lists are chosen.
MIN_ITEMS = 2**15
# About as many multiplications with centroids take the time of one look at a table.
MULTIPLICATIONS_PER_LOOKUP = 100

Build = Callable[[int], Partition]


class Tuning(NamedTuple):
    """The chosen partition.

    Attributes:
        partition: The lists.
        num_probes: Lists to look at.
        agreement: Measured share of the best items that are found so.
        curve: What was measured: dictionaries of `num_lists`, `num_probes`, `agreement` and
            `items`, the mean number of items looked at.
    """

    partition: Partition
    num_probes: int
    agreement: float
    curve: list[dict[str, Any]]


def choose_list_counts(num_items: int) -> list[int]:
    """Numbers of lists worth a try: powers of two about the square root of the items."""
    power = round(np.log2(max(num_items, 4)) / 2)
    ratios = LISTS_PER_ROOT if num_items <= LARGE_COLLECTION else LISTS_PER_ROOT[-1:]
    return [ratio * 2**power for ratio in ratios if ratio * 2**power <= num_items]


def tune_partition(
    build: Build,
    list_counts: Sequence[int],
    queries: np.ndarray,
    best_positions: np.ndarray,
    code_length: int,
    agreement: float,
) -> Tuning:
    """Choose the cheapest partition and number of probes that agree enough with a full search.

    Args:
        build: Makes a partition of so many lists.
        list_counts: Numbers of lists to try.
        queries: See `Partitioning`.
        best_positions: `[queries, top_k]`, what a full search finds; -1 where there is no item.
        code_length: Number of code positions.
        agreement: See `Partitioning`.
    """
    curve: list[dict[str, Any]] = []
    tunings: list[tuple[float, Tuning]] = []
    for count in list_counts:
        partition = build(count)
        measured = measure_partition(partition, queries, best_positions)
        curve += measured
        enough = next(point for point in measured if point["agreement"] >= agreement)
        cost = enough["items"] * code_length
        cost += partition.centroids.size / MULTIPLICATIONS_PER_LOOKUP
        tuning = Tuning(partition, enough["num_probes"], enough["agreement"], curve)
        tunings.append((cost, tuning))
    return min(tunings, key=lambda pair: pair[0])[1]


def measure_partition(
    partition: Partition, queries: np.ndarray, best_positions: np.ndarray
) -> list[dict[str, Any]]:
    """Agreement with a full search and items looked at, for ever more probes, up to all lists."""
    list_of_item = np.empty(len(partition.order), np.int32)
    list_of_item[partition.order] = np.repeat(np.arange(partition.num_lists), partition.lengths)
    ranked = np.argsort(-(queries @ partition.directions.T), axis=1, kind="stable")
    ranks = np.argsort(ranked, axis=1)
    is_item = best_positions >= 0
    lists = list_of_item[np.maximum(best_positions, 0)]
    rank_of_best = np.take_along_axis(ranks, lists, axis=1)
    items = np.cumsum(partition.lengths[ranked], axis=1).mean(axis=0)
    return [
        {
            "num_lists": partition.num_lists,
            "num_probes": int(probes),
            "agreement": _mean_share((rank_of_best < probes) & is_item, is_item),
            "items": float(items[probes - 1]),
        }
        for probes in _probe_counts(partition.num_lists)
    ]


def _mean_share(is_found: np.ndarray, is_item: np.ndarray) -> float:
    return float(np.mean(is_found.sum(axis=1) / np.maximum(is_item.sum(axis=1), 1)))


def _probe_counts(num_lists: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 ... and all."""
    counts = sorted({2**power * factor // 2 for power in range(32) for factor in (2, 3)})
    return [count for count in counts if count < num_lists] + [num_lists]
