"""Which storage a collection gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..codebooks import Codebooks
from ..filters import TagSets
from .distinct_codes import DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition import Partition, build_partition
from .partition_tuning import choose_list_counts, tune_partition
from .partitioned_codes import PartitionedCodes
from .reranking import RerankedCodes
from .storage import Queries, Storage

# Codes are scored once each where there are so many times more items.
ITEMS_PER_CODE = 4
# Codes that tell whether many items share one.
SAMPLE_SIZE = 2**16

Progress = Callable[[str, int, int], None]


class Partitioning(NamedTuple):
    """How to part a collection.

    Attributes:
        num_lists: Number of lists; None to choose it.
        num_probes: Lists that a query looks at; None to choose it.
        exact: Whether to go on until nothing can be missed.
        agreement: Wanted share of a full search's items, where something is to be chosen.
        queries: float32 `[queries, embedding_dim]`, like those to come and in the form that search
            compares; without rows where nothing is to be chosen.
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


class Candidates(NamedTuple):
    """What a first stage finds for the whole codes to rank.

    Attributes:
        num_candidates: Number of candidates of each query.
        num_first: Code positions that find them.
    """

    num_candidates: int
    num_first: int


def make_storage(
    codebooks: Codebooks,
    codes: np.ndarray,
    tag_sets: TagSets | None,
    *,
    top_k: int,
    partitioning: Partitioning | None = None,
    candidates: Candidates | None = None,
) -> tuple[Storage, TagSets | None]:
    """The storage of a collection, and the tag sets of its rows."""
    coarse = codes if candidates is None else codes[:, : candidates.num_first]
    storage: Storage
    if partitioning is not None:
        storage = _part(codebooks, coarse, partitioning, top_k)
    else:
        storage, tag_sets = _make_whole(coarse, tag_sets)
    # Where there are no items, there are none to rank.
    if candidates is not None and len(codes):
        storage = RerankedCodes(storage, codes, candidates.num_first, candidates.num_candidates)
    return storage, tag_sets


def _make_whole(codes: np.ndarray, tag_sets: TagSets | None) -> tuple[Storage, TagSets | None]:
    """A storage in which every item is scored, or each of few distinct codes once."""
    # A sample tells at once that there are many.
    sample = codes[:: max(len(codes) // SAMPLE_SIZE, 1)]
    if len(sample) and len(np.unique(sample, axis=0)) <= len(sample) // 2:
        groups = group_codes(codes, None if tag_sets is None else tag_sets.set_of_item)
        if len(groups.codes) * ITEMS_PER_CODE <= len(codes):
            if tag_sets is not None and groups.tag_sets is not None:
                tag_sets = tag_sets._replace(set_of_item=groups.tag_sets)
            return DistinctCodes(groups), tag_sets
    return FlatCodes(codes), tag_sets


def _part(
    codebooks: Codebooks,
    codes: np.ndarray,
    options: Partitioning,
    top_k: int,
) -> PartitionedCodes:
    """A storage in which the items of a few lists are scored."""
    vectors = codebooks.vectors()[: codes.shape[1]]

    def build(num_lists: int) -> Partition:
        step = f"Parting into {num_lists:,} lists"
        options.progress(step, 0, len(codes))
        return build_partition(
            vectors,
            codes,
            num_lists,
            progress=lambda done: options.progress(step, done, len(codes)),
        )

    if options.num_lists is not None and options.num_probes is not None:
        partition = build(options.num_lists)
        num_probes = min(options.num_probes, partition.num_lists)
        return PartitionedCodes(codes, partition, num_probes, options.exact)
    counts = [options.num_lists] if options.num_lists else choose_list_counts(len(codes))
    options.progress("Searching all items", 0, len(codes))
    best = _find_exactly(codebooks, codes, options.queries, top_k)
    options.progress("Searching all items", len(codes), len(codes))
    tuning = tune_partition(build, counts, options.queries, best, codes.shape[1], options.agreement)
    report = {
        "agreement": tuning.agreement,
        "tuned_with": options.tuned_with,
        "curve": tuning.curve,
    }
    return PartitionedCodes(codes, tuning.partition, tuning.num_probes, options.exact, report)


def _find_exactly(
    codebooks: Codebooks, codes: np.ndarray, queries: np.ndarray, top_k: int
) -> np.ndarray:
    """Positions int32 `[queries, top_k]` that a full search finds."""
    flat = FlatCodes(codes)
    embeddings = tf.constant(queries)
    tables = codebooks.make_tables(embeddings)[:, : codes.shape[1]]
    find = tf.function(lambda queries: flat.find(queries, top_k).positions, autograph=False)
    return np.asarray(find(Queries(embeddings, tables)))
