"""The answers of shards as the one answer that an index of all items would give."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ...interface.search_result import SearchResult
from .shard_servers import Versions

FLOOR_SCORE = np.finfo(np.float32).min


@dataclasses.dataclass(frozen=True)
class ShardedSearchResult(SearchResult):
    """What a search over shards found.

    Attributes:
        version: The version of the model that all shards answered with.
        delta_version: That of the delta; None without one.
        missing_shards: Numbers of the shards that did not answer, so that their items are not
            among those found; empty unless the client allows partial answers. The delta's number
            is that of the shards. Without it, items are missing that came lately, and others may
            be outdated or gone.
    """

    version: int = 0
    delta_version: int | None = None
    missing_shards: tuple[int, ...] = ()


def merge_results(
    results: Sequence[SearchResult], versions: Versions, missing_shards: Sequence[int] = ()
) -> ShardedSearchResult:
    """The best of what shards found, each `[batch, top_k]` and best first: again `[batch, top_k]`.

    Equal scores come in the order of the shards, and within one in the order that it gave: as the
    shards are neighbouring ranges of an index, that is ascending position. Places where a shard
    had no item come last. The delta may hold an item that a shard has as well: it counts once.
    """
    top_k = results[0].ids.shape[1]
    found = _side_by_side(results)
    if versions.delta is not None:
        found = blank(found, _find_doubles(found.ids))
    keys = np.where(found.ids == _no_item(found.ids), np.inf, -found.scores)
    order = np.argsort(keys, axis=1, kind="stable")[:, :top_k]
    return ShardedSearchResult(
        **_take(found, order).arrays(),
        version=versions.shards,
        delta_version=versions.delta,
        missing_shards=tuple(missing_shards),
    )


def blank(found: SearchResult, is_out: np.ndarray) -> SearchResult:
    """What was found with no item in some places `[batch, places]`."""
    fills = {"ids": _no_item(found.ids), "scores": FLOOR_SCORE, "matches": False, "labels": ""}
    return SearchResult(
        **{
            name: np.where(is_out, fills[name], values).astype(values.dtype, copy=False)
            for name, values in found.arrays().items()
        }
    )


def drop_hidden(found: SearchResult, hidden: Collection[Any], top_k: int | None) -> SearchResult:
    """The first `top_k` of what was found and is not hidden, or all of it."""
    are_hidden = map(frozenset(hidden).__contains__, found.ids.ravel().tolist())
    is_out = np.fromiter(are_hidden, bool, found.ids.size).reshape(found.ids.shape)
    order = np.argsort(is_out, axis=1, kind="stable")[:, :top_k]
    return _take(blank(found, is_out), order)


def _take(found: SearchResult, places: np.ndarray) -> SearchResult:
    """What was found in these places `[batch, places]`."""
    return SearchResult(
        **{
            name: np.take_along_axis(values, places, axis=1)
            for name, values in found.arrays().items()
        }
    )


def _side_by_side(results: Sequence[SearchResult]) -> SearchResult:
    """All places `[batch, places]` of several results; labels and matches if all have them."""
    fields = [result.arrays() for result in results]
    names = [name for name in fields[0] if all(name in one for one in fields)]
    return SearchResult(
        **{name: np.concatenate([one[name] for one in fields], axis=1) for name in names}
    )


def _find_doubles(ids: np.ndarray) -> np.ndarray:
    """Where an id stands that stood before in its row."""
    is_double = np.ones(ids.shape, bool)
    for row, own in zip(is_double, ids.tolist(), strict=True):
        # The last to be written is the first place.
        firsts = {id_: place for place, id_ in reversed(list(enumerate(own)))}
        row[list(firsts.values())] = False
    return is_double


def _no_item(ids: np.ndarray) -> str | int:
    return "" if ids.dtype == object else -1
