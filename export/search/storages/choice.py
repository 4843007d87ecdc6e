"""Which storage a collection gets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..codebooks import Codebooks
from ..filters import TagSets
from .distinct_codes import CodeGroups, DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition_tuning import Partitioning, part_codes
from .partitioned_codes import PartitionedCodes
from .reranking import Reranked
from .storage import Queries, Storage

# Each code is scored once where there are so many times more items.
ITEMS_PER_CODE = 4
# Codes that tell whether many items share one.
SAMPLE_SIZE = 2**16


class _Rows(NamedTuple):
    """What a search scores: items, or the groups of items that share code and tags.

    Attributes:
        codes: Integers `[num_rows, code_length]`.
        tag_sets: The tag set of each row; None if items have none.
        groups: The groups; None if the rows are items.
    """

    codes: np.ndarray
    tag_sets: TagSets | None
    groups: CodeGroups | None = None

    def store(self, rows: Storage) -> Storage:
        """The storage of the items, of one whose items are the rows."""
        return rows if self.groups is None else DistinctCodes(self.groups, rows)

    def find_rows(self, positions: np.ndarray) -> np.ndarray:
        """The rows of items of any shape; -1 where there is no item."""
        if self.groups is None:
            return positions
        return np.where(positions < 0, -1, self.groups.group_of_item[positions])


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
    """The storage of a collection, and the tag sets of its rows.

    With `embeddings` `[num_items, embedding_dim]` these rank the candidates of the codes.
    """
    num_wanted = top_k if embeddings is None else max(top_k, num_candidates)
    rows = _choose_rows(_Rows(codes, tag_sets))
    storage = rows.store(FlatCodes(rows.codes))
    if partitioning is not None:
        storage = _part(codebooks, rows, storage, partitioning, top_k, num_wanted)
    # Where there are no items, there are none to rank.
    if embeddings is not None and len(codes):
        storage = Reranked(storage, embeddings, codebooks.distance, num_candidates)
    return storage, rows.tag_sets


def _choose_rows(items: _Rows) -> _Rows:
    """Items, or distinct codes where many items share each."""
    codes, tag_sets = items.codes, items.tag_sets
    if _has_many_codes(codes):
        return items
    groups = group_codes(codes, None if tag_sets is None else tag_sets.set_of_item)
    if len(groups.codes) * ITEMS_PER_CODE > len(codes):
        return items
    if tag_sets is not None and groups.tag_sets is not None:
        tag_sets = tag_sets._replace(set_of_item=groups.tag_sets)
    return _Rows(groups.codes, tag_sets, groups)


def _has_many_codes(codes: np.ndarray) -> bool:
    """Whether too few items share codes to look at all; a sample tells."""
    num_items = len(codes)
    if not num_items:
        return True
    sample = codes
    if num_items > SAMPLE_SIZE:
        rows = np.random.default_rng(0).integers(num_items, size=SAMPLE_SIZE)
        sample = codes[np.unique(rows)]
    # So many codes a sample has where as many items share each.
    share_left = (1 - len(sample) / num_items) ** ITEMS_PER_CODE
    expected = num_items / ITEMS_PER_CODE * (1 - share_left)
    return len(np.unique(sample, axis=0)) > expected


def _part(
    codebooks: Codebooks,
    rows: _Rows,
    whole: Storage,
    options: Partitioning,
    top_k: int,
    num_wanted: int,
) -> Storage:
    """The rows in lists, or whole where lists do not pay."""
    best = None
    if options.num_probes is None:
        options.progress("Searching all items", 0, whole.num_items)
        best = _search(codebooks, whole, rows.codes.shape[1], options.queries, top_k)
        best = rows.find_rows(best)
        options.progress("Searching all items", whole.num_items, whole.num_items)
    weights = None if rows.groups is None else np.diff(rows.groups.splits)
    lists = part_codes(codebooks, rows.codes, weights, options, best, num_wanted)
    if isinstance(lists, PartitionedCodes):
        return rows.store(lists)
    whole.report = lists
    return whole


def _search(
    codebooks: Codebooks, storage: Storage, code_length: int, queries: np.ndarray, top_k: int
) -> np.ndarray:
    """Positions `[queries, top_k]` of the items that each query finds."""

    @tf.function(autograph=False)
    def search(embeddings: tf.Tensor) -> tf.Tensor:
        tables = codebooks.make_tables(embeddings)[:code_length]
        return storage.find(Queries(embeddings, tables), top_k).positions

    return search(tf.constant(queries)).numpy()
