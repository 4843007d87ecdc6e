"""The answers of shards as the one answer that an index of all items would give."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..interface.search_result import SearchResult


@dataclasses.dataclass(frozen=True)
class ShardedSearchResult(SearchResult):
    """What a search over shards found.

    Attributes:
        version: The version of the model that all shards answered with.
        missing_shards: Numbers of the shards that did not answer, so that their items are not
            among those found; empty unless the client allows partial answers.
    """

    version: int = 0
    missing_shards: tuple[int, ...] = ()


def merge_results(
    results: Sequence[SearchResult], version: int, missing_shards: Sequence[int] = ()
) -> ShardedSearchResult:
    """The best of what shards found, each `[batch, top_k]` and best first: again `[batch, top_k]`.

    Equal scores come in the order of the shards, and within one in the order that it gave: as the
    shards are neighbouring ranges of an index, that is ascending position. Places where a shard
    had no item come last.
    """
    top_k = results[0].ids.shape[1]
    ids = np.concatenate([result.ids for result in results], axis=1)
    scores = np.concatenate([result.scores for result in results], axis=1)
    no_item = "" if ids.dtype == object else -1
    keys = np.where(ids == no_item, np.inf, -scores)
    order = np.argsort(keys, axis=1, kind="stable")[:, :top_k]

    def choose(name: str) -> np.ndarray | None:
        columns = [getattr(result, name) for result in results]
        if any(column is None for column in columns):
            return None
        return np.take_along_axis(np.concatenate(columns, axis=1), order, axis=1)

    return ShardedSearchResult(
        np.take_along_axis(ids, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
        choose("matches"),
        choose("labels"),
        version,
        tuple(missing_shards),
    )
