"""Which storage a collection gets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..codebooks import Codebooks
from ..filters import TagSets
from .distinct_codes import CodeGroups, DistinctCodes, group_codes
from .flat_codes import FlatCodes
from .partition_tuning import Partitioning, part_codes
from .reranking import RerankedCodes, RerankedEmbeddings
from .storage import Storage
from .timing import BATCH_SIZES, choose_fastest, make_search, time_storages

# Each code is scored once where there are so many times more items. With fewer, but so many, a
# measurement tells.
ITEMS_PER_CODE = 4
ITEMS_PER_CODE_TO_MEASURE = 2
# Codes that tell whether many items share one.
SAMPLE_SIZE = 2**16
# What the manifest tells of each candidate.
CANDIDATE_FACTS = ("kind", "num_lists", "num_probes", "agreement")


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


Candidate = tuple[_Rows, Storage]


def make_storage(
    codebooks: Codebooks,
    codes: np.ndarray,
    tag_sets: TagSets | None,
    *,
    top_k: int,
    partitioning: Partitioning | None = None,
    num_first: int | None = None,
    embeddings: np.ndarray | None = None,
    num_candidates: int = 0,
) -> tuple[Storage, TagSets | None]:
    """The storage of a collection, and the tag sets of its rows.

    With `num_first` so many code positions find candidates, and all positions rank these. With
    `embeddings` `[num_items, embedding_dim]` these rank the candidates of the codes.
    """
    has_stages = num_first is not None or embeddings is not None
    num_wanted = max(top_k, num_candidates) if has_stages else top_k
    is_auto = partitioning is not None and partitioning.num_lists is None
    kinds = _list_kinds(_Rows(codes[:, :num_first], tag_sets), is_auto)
    candidates = [(rows, rows.store(FlatCodes(rows.codes))) for rows in kinds]
    if partitioning is not None:
        parted = _part(codebooks, candidates, partitioning, top_k, num_wanted)
        candidates = candidates + parted if is_auto else parted
        if len(candidates) > 1:
            candidates = [_choose_fastest(codebooks, candidates, partitioning, num_wanted)]
    ((rows, storage),) = candidates
    # Where there are no items, there are none to rank.
    if num_first is not None and len(codes):
        storage = RerankedCodes(storage, codes, num_first, num_candidates)
    if embeddings is not None and len(codes):
        distance = codebooks.distance
        storage = RerankedEmbeddings(storage, embeddings, distance, num_candidates)
    return storage, rows.tag_sets


def _list_kinds(items: _Rows, is_measured: bool) -> list[_Rows]:
    """Items, distinct codes, or both: what is worth a measurement, or the better by a rule."""
    codes, tag_sets = items.codes, items.tag_sets
    if _has_many_codes(codes):
        return [items]
    groups = group_codes(codes, None if tag_sets is None else tag_sets.set_of_item)
    if tag_sets is not None and groups.tag_sets is not None:
        tag_sets = tag_sets._replace(set_of_item=groups.tag_sets)
    distinct = _Rows(groups.codes, tag_sets, groups)
    if len(groups.codes) * ITEMS_PER_CODE <= len(codes):
        return [distinct]
    is_worth_it = len(groups.codes) * ITEMS_PER_CODE_TO_MEASURE <= len(codes)
    return [items, distinct] if is_measured and is_worth_it else [items]


def _has_many_codes(codes: np.ndarray) -> bool:
    """Whether too few items share codes to look at all; a sample tells."""
    num_items = len(codes)
    if not num_items:
        return True
    sample = codes
    if num_items > SAMPLE_SIZE:
        rows = np.random.default_rng(0).integers(num_items, size=SAMPLE_SIZE)
        sample = codes[np.unique(rows)]
    # So many codes a sample has where as many items share each as make it worth a measurement.
    share_left = (1 - len(sample) / num_items) ** ITEMS_PER_CODE_TO_MEASURE
    expected = num_items / ITEMS_PER_CODE_TO_MEASURE * (1 - share_left)
    return len(np.unique(sample, axis=0)) > expected


def _part(
    codebooks: Codebooks,
    whole: list[Candidate],
    options: Partitioning,
    top_k: int,
    num_wanted: int,
) -> list[Candidate]:
    """The same rows in lists; in several numbers of lists if none is given."""
    best = None
    if options.num_probes is None:
        rows, storage = whole[-1]
        options.progress("Searching all items", 0, storage.num_items)
        search = make_search(codebooks, storage, rows.codes.shape[1], top_k)
        best = search(options.queries).positions.numpy()
        options.progress("Searching all items", storage.num_items, storage.num_items)
    parted = []
    for rows, _ in whole:
        own = None if best is None else rows.find_rows(best)
        weights = None if rows.groups is None else np.diff(rows.groups.splits)
        for lists in part_codes(codebooks, rows.codes, weights, options, own, num_wanted):
            parted.append((rows, rows.store(lists)))
    return parted


def _choose_fastest(
    codebooks: Codebooks, candidates: list[Candidate], options: Partitioning, num_wanted: int
) -> Candidate:
    """The fastest storage, which also reports what was measured of each."""
    storages = [storage for _, storage in candidates]
    options.progress("Measuring searches", 0, len(storages))
    code_length = candidates[0][0].codes.shape[1]
    times = time_storages(codebooks, storages, code_length, num_wanted, options.queries)
    options.progress("Measuring searches", len(storages), len(storages))
    sizes = [storage.num_bytes / storage.num_items for storage in storages]
    chosen = choose_fastest(np.column_stack([times, sizes]))
    reports = [
        {
            **_name(storage),
            "milliseconds": dict(zip(map(str, BATCH_SIZES), own.tolist(), strict=True)),
            "bytes_per_item": size,
        }
        for storage, own, size in zip(storages, times, sizes, strict=True)
    ]
    rows, storage = candidates[chosen]
    storage.report = {**storage.report, "candidates": reports}
    return rows, storage


def _name(storage: Storage) -> dict[str, Any]:
    """What tells a candidate from others, and its agreement."""
    known = {"agreement": 1.0, **storage.describe()}
    return {name: known[name] for name in CANDIDATE_FACTS if name in known}
