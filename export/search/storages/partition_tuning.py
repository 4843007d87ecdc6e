"""How many lists, by the number of rows, and how many to look at, measured on queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..codebooks import Codebooks
from .flat_codes import FlatCodes
from .partition import Partition, build_partition
from .partitioned_codes import PartitionedCodes
from .storage import Storage

# In multiples of the square root of the rows. Too few lists are worse than too many: a list that
# spans several clusters is ranked by none of them.
LISTS_PER_ROOT = 2
# With so large a share of the rows to score, lists take as long as a search of all rows does where
# many queries come together.
MAX_SCORED = 1 / 3
# Lists that miss a query's best list by more than a margin are passed over: of the margins that are
# enough, the largest that lets hardly more rows be scored, so that other queries find as much.
SPARE_SCORED = 1.1
# Fewer rows are scored as fast as lists are chosen.
MIN_ROWS = 2**12

Progress = Callable[[str, int, int], None]


class Partitioning(NamedTuple):
    """How to part a collection.

    Numbers that are None are chosen: probes for the agreement with a full search, lists by the
    number of rows.

    Attributes:
        queries: float32 `[queries, embedding_dim]`, like those to come and in the form that search
            compares.
        tuned_with: What the queries are, for the manifest.
        progress: Is told the step, and how many of how many items it has done.
    """

    num_lists: int | None
    num_probes: int | None
    agreement: float
    queries: np.ndarray
    tuned_with: str
    progress: Progress


def part_codes(
    codebooks: Codebooks,
    codes: np.ndarray,
    count: int,
    weights: np.ndarray | None,
    options: Partitioning,
    best_rows: np.ndarray | None,
    num_wanted: int,
) -> Storage:
    """Codes in lists; flat ones where a chosen number of lists does not pay.

    Args:
        codebooks: What the codes stand for.
        codes: Integers `[num_rows, code_length]`.
        count: Number of lists.
        weights: Number of items of each row; one if None. Codes that few items have are outliers,
            which must not draw the lists away from where the items are.
        options: How to part them.
        best_rows: Integers `[queries, items]`, the rows of the items that a full search finds; -1
            where there is none. Not needed with a number of probes.
        num_wanted: Rows that a search is asked for; a query goes on where its lists hold fewer.
    """
    partition = build_partition(
        codebooks.vectors(),
        codes,
        count,
        partial(options.progress, f"Parting into {count:,} lists"),
        by_distance=codebooks.distance is not None,
        weights=weights,
    )
    if best_rows is None:
        num_probes = min(options.num_probes or count, partition.num_lists)
        return PartitionedCodes(codes, partition, num_probes)
    curve = measure_partition(partition, options.queries, best_rows)
    least = min(num_wanted, len(codes))
    enough = next(
        point
        for point in curve
        if point["agreement"] >= options.agreement and point["scored_at_least"] >= least
    )
    if options.num_lists is None and enough["scored"] > MAX_SCORED * len(codes):
        flat = FlatCodes(codes)
        flat.report = {"curve": curve}
        return flat
    num_probes = enough["num_probes"]
    margin, agreement = choose_margin(
        partition, options.queries, best_rows, num_probes, options.agreement
    )
    lists = PartitionedCodes(codes, partition, num_probes, margin)
    lists.report = {"agreement": agreement, "tuned_with": options.tuned_with, "curve": curve}
    return lists


def choose_list_count(num_rows: int) -> int:
    """A power of two about twice the square root of the rows; 0 for few rows."""
    return LISTS_PER_ROOT * 2 ** round(np.log2(num_rows) / 2) if num_rows >= MIN_ROWS else 0


def measure_partition(
    partition: Partition, queries: np.ndarray, best_rows: np.ndarray
) -> list[dict[str, Any]]:
    """What more and more probes find, up to all lists.

    The agreement with a full search, and how many rows are scored: in the mean, and at least.
    """
    scores = queries @ partition.rank_vectors.T - partition.rank_offsets
    ranked = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argsort(ranked, axis=1)
    is_item = best_rows >= 0
    num_items = np.maximum(is_item.sum(axis=1), 1)
    lists = partition.list_of_item[np.maximum(best_rows, 0)]
    rank_of_best = np.take_along_axis(ranks, lists, axis=1)
    scored = np.cumsum(partition.lengths[ranked], axis=1)
    points = []
    for probes in _probe_counts(partition.num_lists):
        shares = ((rank_of_best < probes) & is_item).sum(axis=1) / num_items
        points.append(
            {
                "num_lists": partition.num_lists,
                "num_probes": probes,
                "agreement": float(np.mean(shares)),
                "scored": float(scored[:, probes - 1].mean()),
                "scored_at_least": int(scored[:, probes - 1].min()),
            }
        )
    return points


def choose_margin(
    partition: Partition,
    queries: np.ndarray,
    best_rows: np.ndarray,
    num_probes: int,
    agreement: float,
) -> tuple[float, float]:
    """By how much lists may miss the best one, of so many that agree enough; and the agreement."""
    scores = queries @ partition.rank_vectors.T - partition.rank_offsets
    scores = scores.max(axis=1, keepdims=True) - scores
    ranked = np.argsort(scores, axis=1, kind="stable")[:, :num_probes]
    gaps = np.take_along_axis(scores, ranked, axis=1)
    order = np.argsort(gaps, axis=None)
    scored = np.cumsum(partition.lengths[ranked].ravel()[order]) / len(queries)
    gaps_of_items = np.take_along_axis(
        scores, partition.list_of_item[np.maximum(best_rows, 0)], axis=1
    )
    gaps_of_items[gaps_of_items > gaps[:, -1:]] = np.inf
    gaps_of_items = np.sort(gaps_of_items[best_rows >= 0])
    last = min(int(np.ceil(agreement * len(gaps_of_items))), len(gaps_of_items)) - 1
    least = np.searchsorted(gaps.ravel()[order], gaps_of_items[last], side="right") - 1
    most = np.searchsorted(scored, SPARE_SCORED * scored[least], side="right") - 1
    margin = float(gaps.ravel()[order][most])
    return margin, float(np.mean(gaps_of_items <= margin))


def _probe_counts(num_lists: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 ... and all."""
    counts = sorted({2**power * factor // 2 for power in range(32) for factor in (2, 3)})
    return [count for count in counts if count < num_lists] + [num_lists]
