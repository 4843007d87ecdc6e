"""Which storage a collection gets."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..codebooks import Codebooks
from ..filters import TagSets
from .distinct_codes import CodeGroups, DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition_tuning import Partitioning, choose_list_count, part_codes
from .reranking import Reranked
from .storage import Queries, Storage

# Each code is scored once where there are so many times more items.
ITEMS_PER_CODE = 4
# Codes that tell whether many items share one.
SAMPLE_SIZE = 2**16


def make_storage(
    codebooks: Codebooks,
    codes: np.ndarray,
    tag_sets: TagSets | None,
    *,
    top_k: int,
    partitioning: Partitioning | None = None,
    embeddings: np.ndarray | None = None,
    num_candidates: int = 0,
) -> tuple[Storage, TagSets | None]:
    """The storage of a collection, and the tag sets of its rows: of items, or of distinct codes.

    With `embeddings` `[num_items, embedding_dim]` these rank the candidates of the codes.
    """
    num_wanted = top_k if embeddings is None else max(top_k, num_candidates)
    groups = _group_shared(codes, tag_sets)
    if groups is not None:
        codes = groups.codes
        if tag_sets is not None and groups.tag_sets is not None:
            tag_sets = tag_sets._replace(set_of_item=groups.tag_sets)
    if partitioning is None:
        rows: Storage = FlatCodes(codes)
    else:
        rows = _part(codebooks, codes, groups, partitioning, top_k, num_wanted)
    storage = _store(rows, groups)
    # Where there are no items, there are none to rank.
    if embeddings is not None and len(codes):
        storage = Reranked(storage, embeddings, codebooks.distance, num_candidates)
    return storage, tag_sets


def _store(rows: Storage, groups: CodeGroups | None) -> Storage:
    """The storage of the items, of one whose items are the groups."""
    return rows if groups is None else DistinctCodes(groups, rows)


def _group_shared(codes: np.ndarray, tag_sets: TagSets | None) -> CodeGroups | None:
    """The groups of items with the same code and tags, where many items share each."""
    if _has_many_codes(codes):
        return None
    groups = group_codes(codes, None if tag_sets is None else tag_sets.set_of_item)
    return groups if len(groups.codes) * ITEMS_PER_CODE <= len(codes) else None


def _has_many_codes(codes: np.ndarray) -> bool:
    """Whether too few items share codes to look at all; a sample tells."""
    num_items = len(codes)
    if not num_items:
        return True
    sample = codes
    if num_items > SAMPLE_SIZE:
        rows = np.random.default_rng(0).integers(num_items, size=SAMPLE_SIZE)
        sample = codes[np.unique(rows)]
    # So many codes a sample has where half as many items share each: chance must hide none.
    num_codes = 2 * num_items / ITEMS_PER_CODE
    expected = num_codes * (1 - (1 - len(sample) / num_items) ** (ITEMS_PER_CODE / 2))
    return len(np.unique(sample, axis=0)) > expected


def _part(
    codebooks: Codebooks,
    codes: np.ndarray,
    groups: CodeGroups | None,
    options: Partitioning,
    top_k: int,
    num_wanted: int,
) -> Storage:
    """As `part_codes`, which it tells what a full search finds."""
    count = min(options.num_lists or choose_list_count(len(codes)), len(codes))
    if not count:
        return FlatCodes(codes)
    best = None
    if options.num_probes is None:
        options.progress("Searching all items", 0, len(codes))
        best = _search(codebooks, _store(FlatCodes(codes), groups), options.queries, top_k)
        if groups is not None:
            best = np.where(best < 0, -1, groups.group_of_item[best])
        options.progress("Searching all items", len(codes), len(codes))
    weights = None if groups is None else np.diff(groups.splits)
    return part_codes(codebooks, codes, count, weights, options, best, num_wanted)


def _search(codebooks: Codebooks, storage: Storage, queries: np.ndarray, top_k: int) -> np.ndarray:
    """Positions `[queries, top_k]` of the items that each query finds."""

    @tf.function(autograph=False)
    def search(embeddings: tf.Tensor) -> tf.Tensor:
        found = storage.find(Queries(embeddings, codebooks.make_tables(embeddings)), top_k)
        return found.positions

    embeddings = tf.constant(queries)
    # Traced at once: TensorFlow warns of many functions that are traced when they are called.
    return search.get_concrete_function(embeddings)(embeddings).numpy()
