"""Which storage a collection gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..filters import TagSets
from .distinct_codes import DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition import Partition, build_partition, codeword_vectors
from .partition_tuning import MIN_ITEMS, Tuning, choose_list_counts, tune_partition
from .partitioned_codes import PartitionedCodes
from .reranking import EmbeddingReranking, LevelReranking
from .storage import Queries, Storage

# Codes are scored once each where there are so many times more items.
ITEMS_PER_CODE = 4
# Queries that a partition is tuned with, at most.
NUM_TUNING_QUERIES = 128


Progress = Callable[[str, int, int], None]


class Partitioning(NamedTuple):
    """How to part a collection.

    Attributes:
        num_lists: Number of lists; None to choose it.
        num_probes: Lists that a query looks at; None to choose it.
        exact: Whether to go on until nothing can be missed.
        agreement: Wanted share of a full search's items, where something is to be chosen.
        queries: float `[queries, embedding_dim]`, like those to come; None to take reconstructions
            of items, which are found more easily.
        progress: Is told the step, and how many of how many items it has done.
    """

    num_lists: int | None = None
    num_probes: int | None = None
    exact: bool = False
    agreement: float = 0.99
    queries: np.ndarray | None = None
    progress: Progress | None = None


class SecondStage(NamedTuple):
    """How candidates are ranked.

    Attributes:
        num_candidates: Number of candidates of each query.
        first_levels: Residual levels that find them; all levels rank them.
        embeddings: float `[num_items, embedding_dim]`, which rank them.
    """

    num_candidates: int
    first_levels: int | None = None
    embeddings: np.ndarray | None = None


def make_storage(
    quantizer: Any,
    codes: np.ndarray,
    num_codewords: int,
    tag_sets: TagSets | None,
    *,
    top_k: int,
    rows_per_block: int,
    partitioning: Partitioning | None = None,
    second_stage: SecondStage | None = None,
    xla: bool = False,
) -> tuple[Storage, TagSets | None]:
    """The storage of a collection, and the tag sets of its rows."""
    coarse, coarse_codes = quantizer, codes
    if second_stage is not None and second_stage.first_levels is not None:
        coarse = quantizer.prefix(second_stage.first_levels)
        coarse_codes = codes[:, : coarse.code_length]
    storage: Storage
    if partitioning is not None:
        storage = partitioned_storage(
            coarse, coarse_codes, num_codewords, partitioning, top_k, rows_per_block
        )
    elif xla:
        storage = FlatCodes(coarse_codes, rows_per_block, num_codewords)
    else:
        storage, tag_sets = flat_storage(coarse_codes, rows_per_block, tag_sets)
    # Of no items there are none to rank.
    if second_stage is not None and len(codes):
        if second_stage.embeddings is None:
            storage = LevelReranking(
                storage, codes, coarse.code_length, second_stage.num_candidates
            )
        else:
            embeddings = _to_halves(quantizer, second_stage.embeddings, len(codes))
            storage = EmbeddingReranking(storage, embeddings, second_stage.num_candidates)
    return storage, tag_sets


def flat_storage(
    codes: np.ndarray, rows_per_block: int, tag_sets: TagSets | None
) -> tuple[Storage, TagSets | None]:
    """A storage in which every item is scored, and the tag sets of its rows.

    Distinct codes are scored once each if there are few of them.
    """
    # A sample tells at once that there are many.
    sample = codes[:: max(len(codes) // 2**16, 1)]
    if len(sample) and len(np.unique(sample, axis=0)) <= len(sample) // 2:
        groups = group_codes(codes, None if tag_sets is None else tag_sets.set_of_item)
        if len(groups.codes) * ITEMS_PER_CODE <= len(codes):
            if tag_sets is not None and groups.tag_sets is not None:
                tag_sets = tag_sets._replace(set_of_item=groups.tag_sets)
            return DistinctCodes(groups, rows_per_block), tag_sets
    return FlatCodes(codes, rows_per_block), tag_sets


def partitioned_storage(
    quantizer: Any,
    codes: np.ndarray,
    num_codewords: int,
    options: Partitioning,
    top_k: int,
    rows_per_block: int,
) -> PartitionedCodes:
    """A storage in which the items of a few lists are scored."""
    vectors = codeword_vectors(quantizer, num_codewords)
    say = options.progress or (lambda step, done, total: None)

    def build(num_lists: int) -> Partition:
        step = f"Parting into {num_lists:,} lists"
        say(step, 0, len(codes))
        return build_partition(
            vectors, codes, num_lists, progress=lambda done: say(step, done, len(codes))
        )

    if options.num_lists is not None and options.num_probes is not None:
        partition = build(options.num_lists)
        num_probes = min(options.num_probes, partition.num_lists)
        return PartitionedCodes(codes, partition, num_probes, options.exact)
    if options.num_lists is None:
        counts = [count for count in choose_list_counts(len(codes)) if count <= len(codes)]
    else:
        counts = [options.num_lists]
    embeddings = _tuning_queries(quantizer, codes, options.queries)
    say("Searching all items", 0, len(codes))
    best = _find_exactly(quantizer, codes, embeddings, top_k, rows_per_block)
    say("Searching all items", len(codes), len(codes))
    tuning = tune_partition(build, counts, embeddings, best, codes.shape[1], options.agreement)
    return PartitionedCodes(
        codes,
        tuning.partition,
        tuning.num_probes,
        options.exact,
        _report(tuning, options),
    )


def is_worth_parting(num_items: int) -> bool:
    """Whether a search over lists is expected to be faster than one over all items."""
    return num_items >= MIN_ITEMS


def _tuning_queries(quantizer: Any, codes: np.ndarray, queries: np.ndarray | None) -> np.ndarray:
    """Normalised queries, a few of those given."""
    rng = np.random.default_rng(0)
    if queries is None:
        rows = rng.choice(len(codes), min(NUM_TUNING_QUERIES, len(codes)), replace=False)
        queries = np.asarray(quantizer.decode(codes[np.sort(rows)].astype(np.int32)))
    elif len(queries) > NUM_TUNING_QUERIES:
        queries = queries[np.sort(rng.choice(len(queries), NUM_TUNING_QUERIES, replace=False))]
    return np.asarray(quantizer.normalize(np.asarray(queries, np.float32)))


def _find_exactly(
    quantizer: Any, codes: np.ndarray, embeddings: np.ndarray, top_k: int, rows_per_block: int
) -> np.ndarray:
    flat = FlatCodes(codes, rows_per_block)
    tables = quantizer.lookup_tables(embeddings)
    find = tf.function(lambda queries: flat.find(queries, top_k).positions, autograph=False)
    queries = Queries(tf.constant(embeddings), tf.convert_to_tensor(tables))
    return np.asarray(find(queries))


def _report(tuning: Tuning, options: Partitioning) -> dict[str, Any]:
    return {
        "agreement": tuning.agreement,
        "tuned_with": "reconstructions" if options.queries is None else "queries",
        "curve": tuning.curve,
    }


def _to_halves(quantizer: Any, embeddings: np.ndarray, num_items: int) -> np.ndarray:
    """Normalised embeddings of all items in half precision."""
    expected = (num_items, quantizer.embedding_dim)
    if embeddings.shape != expected:
        raise ValueError(f"embeddings must have shape {expected}. Received: {embeddings.shape}")
    blocks = np.array_split(embeddings, max(num_items // 2**16, 1))
    halves = np.concatenate(
        [np.asarray(quantizer.normalize(block), np.float16) for block in blocks]
    )
    if not np.isfinite(halves).all():
        raise ValueError("embeddings must be finite. Received: NaN or infinity")
    return halves
