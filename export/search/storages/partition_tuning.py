"""How many lists, and how many of them to look at: chosen by measurement on queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..codebooks import Codebooks
from .flat_codes import FlatCodes
from .partition import Partition, build_partition, find_excess
from .partitioned_codes import PartitionedCodes
from .storage import Queries

# So many lists are tried for a collection, in multiples of the square root of its size; the last
# alone for a collection whose parting takes minutes. Too few are worse than too many: a list that
# spans several clusters is ranked by none of them.
LISTS_PER_ROOT = (1, 2)
LARGE_COLLECTION = 2**22
# Smaller collections are scanned as fast as lists are chosen.
MIN_ITEMS = 2**15
# About as many multiplications with centroids take the time of one look at a table.
MULTIPLICATIONS_PER_LOOKUP = 100

Progress = Callable[[str, int, int], None]


class Partitioning(NamedTuple):
    """How to part a collection.

    Numbers that are None are chosen for the agreement with a full search.

    Attributes:
        queries: float32 `[queries, embedding_dim]`, like those to come and in the form that search
            compares.
        tuned_with: What the queries are, for the manifest.
        progress: Is told the step, and how many of how many items it has done.
    """

    num_lists: int | None
    num_probes: int | None
    exact: bool
    agreement: float
    queries: np.ndarray
    tuned_with: str
    progress: Progress


def part_codes(
    codebooks: Codebooks, codes: np.ndarray, options: Partitioning, top_k: int
) -> PartitionedCodes:
    """The collection in the lists that cost a search least, of those that agree enough."""
    vectors = codebooks.vectors()[: codes.shape[1]]

    def build(num_lists: int) -> Partition:
        progress = partial(options.progress, f"Parting into {num_lists:,} lists")
        by_distance = codebooks.distance is not None
        return build_partition(vectors, codes, num_lists, progress, by_distance=by_distance)

    excess = 0.0
    if codebooks.distance is not None:
        weight, _, offsets = codebooks.distance
        excess = find_excess(vectors, offsets, weight, codes)
    store = partial(PartitionedCodes, codes, distance=codebooks.distance, excess=excess)

    if options.num_lists is not None and options.num_probes is not None:
        partition = build(options.num_lists)
        num_probes = min(options.num_probes, partition.num_lists)
        return store(partition, num_probes, options.exact)
    counts = [options.num_lists] if options.num_lists else choose_list_counts(len(codes))
    options.progress("Searching all items", 0, len(codes))
    best = _find_exactly(codebooks, codes, options.queries, top_k)
    options.progress("Searching all items", len(codes), len(codes))
    curve: list[dict[str, Any]] = []
    choices = []
    for count in counts:
        partition = build(count)
        points = measure_partition(partition, options.queries, best)
        curve += points
        enough = next(point for point in points if point["agreement"] >= options.agreement)
        cost = enough["items"] * codes.shape[1]
        cost += partition.centroids.size / MULTIPLICATIONS_PER_LOOKUP
        choices.append((cost, partition, enough))
    _, partition, enough = min(choices, key=lambda choice: choice[0])
    report = {"agreement": enough["agreement"], "tuned_with": options.tuned_with, "curve": curve}
    return store(partition, enough["num_probes"], options.exact, report)


def choose_list_counts(num_items: int) -> list[int]:
    """Numbers of lists worth a try: powers of two about the square root of the items."""
    power = round(np.log2(num_items) / 2)
    ratios = LISTS_PER_ROOT if num_items <= LARGE_COLLECTION else LISTS_PER_ROOT[-1:]
    return [ratio * 2**power for ratio in ratios]


def measure_partition(
    partition: Partition, queries: np.ndarray, best_positions: np.ndarray
) -> list[dict[str, Any]]:
    """Agreement with a full search and items looked at, for ever more probes, up to all lists."""
    list_of_item = np.empty(len(partition.order), np.int32)
    list_of_item[partition.order] = np.repeat(np.arange(partition.num_lists), partition.lengths)
    scores = queries @ partition.rank_vectors.T - partition.rank_offsets
    ranked = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argsort(ranked, axis=1)
    is_item = best_positions >= 0
    num_items = np.maximum(is_item.sum(axis=1), 1)
    lists = list_of_item[np.maximum(best_positions, 0)]
    rank_of_best = np.take_along_axis(ranks, lists, axis=1)
    looked_at = np.cumsum(partition.lengths[ranked], axis=1).mean(axis=0)
    points = []
    for probes in _probe_counts(partition.num_lists):
        shares = ((rank_of_best < probes) & is_item).sum(axis=1) / num_items
        points.append(
            {
                "num_lists": partition.num_lists,
                "num_probes": probes,
                "agreement": float(np.mean(shares)),
                "items": float(looked_at[probes - 1]),
            }
        )
    return points


def _probe_counts(num_lists: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 ... and all."""
    counts = sorted({2**power * factor // 2 for power in range(32) for factor in (2, 3)})
    return [count for count in counts if count < num_lists] + [num_lists]


def _find_exactly(
    codebooks: Codebooks, codes: np.ndarray, queries: np.ndarray, top_k: int
) -> np.ndarray:
    """Positions int32 `[queries, top_k]` that a full search finds; -1 where there is no item."""
    flat, embeddings = FlatCodes(codes), tf.constant(queries)
    tables = codebooks.make_tables(embeddings)[: codes.shape[1]]
    find = tf.function(lambda queries: flat.find(queries, top_k).positions, autograph=False)
    return np.asarray(find(Queries(embeddings, tables)))
