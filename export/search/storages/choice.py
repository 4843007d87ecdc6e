"""Which storage a collection gets."""

from __future__ import annotations

import numpy as np

from ..codebooks import Codebooks
from ..filters import TagSets
from .distinct_codes import DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition_tuning import Partitioning, part_codes
from .reranking import RerankedCodes
from .storage import Storage

# Codes are scored once each where there are so many times more items.
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
    num_first: int | None = None,
    num_candidates: int = 0,
) -> tuple[Storage, TagSets | None]:
    """The storage of a collection, and the tag sets of its rows.

    With `num_first` so many code positions find candidates, and all positions rank these.
    """
    coarse = codes[:, :num_first]
    storage: Storage
    if partitioning is not None:
        storage = part_codes(codebooks, coarse, partitioning, top_k)
    else:
        storage, tag_sets = _make_whole(coarse, tag_sets)
    # Where there are no items, there are none to rank.
    if num_first is not None and len(codes):
        storage = RerankedCodes(storage, codes, num_first, num_candidates)
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
