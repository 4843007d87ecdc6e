"""Search over inverted lists in a TensorFlow graph, with standard ops alone.

The items of the probed lists are scored in one go for all queries: `RaggedGather` copies whole
lists, which lie contiguous, and the scores of each query fill a row of a dense matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .neighbours import (
    FLOOR_SCORE,
    Admits,
    Neighbours,
    best_keys,
    make_keys,
    missing_keys,
    read_keys,
)
from .scan import apart, score_positions

# Items scored at once, at most, unless a single list is larger.
ROWS_PER_CHUNK = 2**19
ITEMS_PER_GROUP = 8
# A row's number stands above these bits, a value's place in its row in them: both are int32.
_LOW_BITS = 31


class Lists(NamedTuple):
    """Items grouped into lists.

    Attributes:
        words: The codes, list after list: integers `[num_items, num_words]`, see `pack_codes`.
        code_dtype: Dtype of the codes when unpacked.
        positions: int32 `[num_items]`, the position in the collection of each of them.
        splits: int64 `[num_lists + 1]`, where each list begins and ends.
        longest: Number of items of the longest list.
    """

    words: tf.Tensor
    code_dtype: tf.DType
    positions: tf.Tensor
    splits: tf.Tensor
    longest: int


class Chunk(NamedTuple):
    """Items of some lists with their scores.

    Attributes:
        scores: float32 `[queries, width]`, `FLOOR_SCORE` where a query has fewer items.
        locate: Positions of the items in places `[n, 2]`, rows and columns of `scores`.
    """

    scores: tf.Tensor
    locate: Callable[[tf.Tensor], tf.Tensor]


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """Codes `[num_items, code_length]` in words `[num_items, num_words]` as wide as fit.

    The ops that gather lists copy number by number, whatever their width.
    """
    num_bytes = codes.shape[1] * codes.itemsize
    width = next(width for width in (8, 4, 2, 1) if num_bytes % width == 0)
    little_endian = np.ascontiguousarray(codes, codes.dtype.newbyteorder("<"))
    return little_endian.view("<i8" if width == 8 else f"<u{width}")


def unpack_codes(words: tf.Tensor, code_dtype: tf.DType) -> list[tf.Tensor]:
    """Codes int32 `[rows, 1]` of each position, of words `[rows, num_words]`."""
    if words.dtype.size > code_dtype.size:
        words = tf.bitcast(words, code_dtype)
    width = int(np.prod(words.shape[1:]))
    if words.shape[1:] != (1, width):
        words = tf.reshape(words, [-1, 1, width])
    return tf.unstack(tf.cast(words, tf.int32), axis=2)


def numbers_of_rows(lengths: tf.Tensor) -> tf.Tensor:
    """int32 `[sum(lengths)]`: 0 `lengths[0]` times, then 1 `lengths[1]` times, and so on.

    As `tf.repeat`, in ops that grow with the result alone.
    """
    low_bits = tf.constant(_LOW_BITS, tf.int64)
    firsts = tf.bitwise.left_shift(tf.range(tf.size(lengths, tf.int64)), low_bits)
    limits = firsts + tf.cast(lengths, tf.int64)
    ranges = tf.raw_ops.RaggedRange(starts=firsts, limits=limits, deltas=np.int64(1))
    return tf.cast(tf.bitwise.right_shift(ranges.rt_dense_values, low_bits), tf.int32)


def search_lists(
    tables: tf.Tensor,
    list_scores: tf.Tensor,
    lists: Lists,
    top_k: int | tf.Tensor,
    num_probes: int | tf.Tensor,
    bounds: tf.Tensor | None = None,
    admits: Admits | None = None,
) -> Neighbours:
    """Find the best items of the best lists.

    A query that finds fewer than `top_k` items in its lists goes on to all others.

    Args:
        tables: float32 `[code_length, queries, num_codewords]`.
        list_scores: float32 `[queries, num_lists]`; lists with larger ones are looked at.
        lists: The collection.
        top_k: Number of items to find, at least 1.
        num_probes: Lists to look at, for each query; a scalar.
        bounds: float32 `[queries, num_lists]`, no item of the list scores more. With it the result
            is exact: the search goes on to every list whose bound reaches the last item found.
        admits: Says which items may be found: for positions int32 `[rows]` bool `[rows, queries]`.

    Returns:
        The best items, equal scores in ascending position.
    """
    scan = _Scan(tables, lists, top_k, admits)
    num_probes = _smaller(num_probes, list_scores.shape[1])

    def search_all() -> tf.Tensor:
        return _search_all(scan, list_scores, num_probes, bounds)

    if bounds is not None or admits is not None:
        return read_keys(search_all())
    # Nearly every request is one query that finds enough at once: it meets no loop. Other requests
    # lose the time of a query.
    best, is_enough = _search_alone(scan, list_scores, num_probes)
    is_alone = tf.equal(tf.size(list_scores), list_scores.shape[1])
    return read_keys(tf.cond(is_alone & is_enough, lambda: best, apart(search_all)))


def _search_alone(
    scan: _Scan, list_scores: tf.Tensor, num_probes: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Keys `[1, top_k]` of the first query's best items, and whether its lists hold enough."""
    num_first = _smaller(num_probes, scan.lists_per_chunk)
    chosen = tf.math.top_k(list_scores[:1], num_first).indices
    words, positions = _gather_lists(scan.lists, tf.reshape(chosen, [-1]))
    codes = unpack_codes(words.output_dense_values, scan.lists.code_dtype)
    # With other queries the first entries would be those of several: nobody sees these scores.
    entries = tf.reshape(scan.tables, [scan.tables.shape[0], -1])
    keys = make_keys(score_positions(entries, codes), positions.output_dense_values)
    num_items = tf.size(keys)
    best = tf.math.top_k(keys, tf.minimum(scan.top_k, num_items)).values
    is_enough = num_items >= scan.top_k
    if num_first is not num_probes:
        is_enough &= tf.equal(num_first, num_probes)
    return tf.expand_dims(best, 0), is_enough


def _smaller(number: int | tf.Tensor, limit: int) -> int | tf.Tensor:
    """The smaller number, one of the graph only if it must be."""
    return tf.minimum(number, limit) if tf.is_tensor(number) else min(number, limit)


def _search_all(
    scan: _Scan, list_scores: tf.Tensor, num_probes: int | tf.Tensor, bounds: tf.Tensor | None
) -> tf.Tensor:
    """Keys `[queries, top_k]` of the best items, as `search_lists` finds them."""
    # What does not fit into one chunk is left to the second pass.
    num_first = _smaller(num_probes, scan.lists_per_chunk)
    _, probed = tf.math.top_k(list_scores, num_first)
    keys = _search_probed(scan, probed)
    last = read_keys(keys[:, -1]).scores
    # Where a query still has to look: nowhere, everywhere, or where the bound says so.
    is_full = last > FLOOR_SCORE
    reach = tf.where(is_full, np.inf if bounds is None else last, -np.inf)

    def look_further() -> tf.Tensor:
        wanted, _ = tf.math.top_k(list_scores, num_probes)
        is_left = list_scores >= wanted[:, -1:]
        is_left |= (list_scores if bounds is None else bounds) >= reach[:, tf.newaxis]
        return _search_rest(scan, probed, is_left, keys)

    is_done = tf.reduce_all(tf.math.is_inf(reach) & is_full) & tf.equal(num_first, num_probes)
    is_done |= tf.equal(num_first, list_scores.shape[1])
    return tf.cond(is_done, lambda: keys, look_further)


class _Scan:
    """What the passes of a search share."""

    def __init__(
        self,
        tables: tf.Tensor,
        lists: Lists,
        top_k: int | tf.Tensor,
        admits: Admits | None,
    ) -> None:
        self.tables = tables
        self.lists = lists
        self.top_k = top_k
        self.width = None if tf.is_tensor(top_k) else top_k
        self.admits = admits
        self.lists_per_chunk = max(ROWS_PER_CHUNK // max(lists.longest, 1), 1)

    def add_lists(
        self, first: tf.Tensor, last: tf.Tensor, chosen: tf.Tensor, best: tf.Tensor
    ) -> tf.Tensor:
        """Keys `[last - first, top_k]`: the best of `best` and of the lists `chosen` per query."""
        chunk = _score_lists(self.tables[:, first:last], chosen, self.lists)
        if self.admits is not None:
            chunk = _admitted(chunk, self.admits, first)
        return _merge(best, chunk, self.top_k)


def _search_probed(scan: _Scan, probed: tf.Tensor) -> tf.Tensor:
    """Keys `[queries, top_k]` of the best items of lists `[queries, count]`."""
    num_queries = tf.shape(probed)[0]
    # A filter is asked for one query at a time.
    chunk = 1 if scan.admits else tf.maximum(scan.lists_per_chunk // tf.shape(probed)[1], 1)

    def add_queries(first: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        last = tf.minimum(first + chunk, num_queries)
        nothing = missing_keys([last - first, scan.top_k])
        found = scan.add_lists(first, last, probed[first:last], nothing)
        return last, tf.concat([keys, found], axis=0)

    shape = tf.TensorShape([None, scan.width])
    _, keys = tf.while_loop(
        lambda first, keys: first < num_queries,
        add_queries,
        (tf.constant(0), missing_keys([0, scan.top_k])),
        shape_invariants=(tf.TensorShape([]), shape),
        parallel_iterations=1,
    )
    keys.set_shape(shape)
    return keys


def _search_rest(scan: _Scan, probed: tf.Tensor, is_left: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Keys `[queries, top_k]` after the lists that are left, but for the probed ones."""

    def search_query(query: tf.Tensor) -> tf.Tensor:
        places = tf.one_hot(probed[query], tf.shape(is_left)[1], True, False, dtype=tf.bool)
        rest = tf.where(is_left[query] & ~tf.reduce_any(places, axis=0))
        rest = tf.reshape(tf.cast(rest, tf.int32), [1, -1])

        def add_chunk(first: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + scan.lists_per_chunk, tf.size(rest))
            return last, scan.add_lists(query, query + 1, rest[:, first:last], best)

        _, best = tf.while_loop(
            lambda first, best: first < tf.size(rest),
            add_chunk,
            (tf.constant(0), keys[query : query + 1]),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, scan.width])),
            parallel_iterations=1,
        )
        return best[0]

    return tf.map_fn(
        search_query,
        tf.range(tf.shape(probed)[0]),
        fn_output_signature=tf.TensorSpec([scan.width], tf.int64),
        parallel_iterations=1,
    )


def _gather_lists(lists: Lists, chosen: tf.Tensor) -> tuple[Any, Any]:
    """Words and positions of the items of lists `[count]`, as results of `RaggedGather`."""
    splits = tf.convert_to_tensor(lists.splits)
    words, positions = (
        tf.raw_ops.RaggedGather(
            params_nested_splits=[splits],
            params_dense_values=values,
            indices=chosen,
            OUTPUT_RAGGED_RANK=1,
        )
        for values in (lists.words, lists.positions)
    )
    return words, positions


def _score_lists(tables: tf.Tensor, chosen: tf.Tensor, lists: Lists) -> Chunk:
    """Score the items of lists `[queries, count]`."""
    code_length, _, num_codewords = tables.shape
    flat = tf.reshape(chosen, [-1])
    gathered, _ = _gather_lists(lists, flat)
    starts = gathered.output_nested_splits[0]
    # Where each query begins among the gathered items.
    query_starts = starts[:: tf.shape(chosen)[1]]
    offsets = numbers_of_rows(query_starts[1:] - query_starts[:-1]) * num_codewords
    offsets = tf.expand_dims(offsets, 1)
    codes = unpack_codes(gathered.output_dense_values, lists.code_dtype)
    entries = tf.reshape(tables, [code_length, -1])
    scores = tf.raw_ops.RaggedTensorToTensor(
        shape=tf.constant([-1, -1], tf.int64),
        values=score_positions(entries, [position + offsets for position in codes]),
        default_value=FLOOR_SCORE,
        row_partition_tensors=[query_starts],
        row_partition_types=["ROW_SPLITS"],
    )

    def locate(places: tf.Tensor) -> tf.Tensor:
        items = tf.gather(query_starts, places[:, 0]) + places[:, 1]
        slots = tf.searchsorted(starts, items, side="right") - 1
        rows = tf.gather(lists.splits, tf.gather(flat, slots)) + items - tf.gather(starts, slots)
        return tf.gather(lists.positions, rows)

    return Chunk(scores, locate)


def _admitted(chunk: Chunk, admits: Admits, query: tf.Tensor) -> Chunk:
    """The chunk of one query, without the items that it does not admit."""
    columns = tf.range(tf.shape(chunk.scores)[1])
    columns = tf.boolean_mask(columns, chunk.scores[0] > FLOOR_SCORE)
    places = tf.stack([tf.zeros_like(columns), columns], axis=1)
    is_admitted = admits(chunk.locate(tf.cast(places, tf.int64)), query)[:, 0]
    # What is no item stands at the end.
    padding = tf.shape(chunk.scores)[1] - tf.size(columns)
    is_admitted = tf.pad(is_admitted, [[0, padding]])
    return chunk._replace(scores=tf.where(is_admitted, chunk.scores, FLOOR_SCORE))


def _merge(best: tf.Tensor, chunk: Chunk, top_k: int | tf.Tensor) -> tf.Tensor:
    """The best keys `[queries, top_k]` of those and of a chunk's items."""
    scores = chunk.scores
    num_queries, width = tf.unstack(tf.shape(scores))
    # At least `top_k` items reach the `top_k`-th best of the maxima of groups, and only what does
    # needs its position and a place in the order.
    num_groups = width // ITEMS_PER_GROUP
    groups = scores[:, : num_groups * ITEMS_PER_GROUP]
    maxima = tf.reduce_max(tf.reshape(groups, [num_queries, ITEMS_PER_GROUP, num_groups]), axis=1)
    count = tf.minimum(top_k, num_groups)
    values, _ = tf.math.top_k(maxima, count, sorted=False)
    lowest = tf.where(count < top_k, FLOOR_SCORE, tf.reduce_min(values, axis=1))
    lowest = tf.maximum(lowest, read_keys(best[:, -1]).scores)
    places = tf.where((scores >= lowest[:, tf.newaxis]) & (scores > FLOOR_SCORE))
    keys = make_keys(tf.gather_nd(scores, places), chunk.locate(places))
    found = tf.raw_ops.RaggedTensorToTensor(
        shape=tf.constant([-1, -1], tf.int64),
        values=keys,
        default_value=missing_keys([]),
        row_partition_tensors=[tf.shape(scores, tf.int64)[0], places[:, 0]],
        row_partition_types=["FIRST_DIM_SIZE", "VALUE_ROWIDS"],
    )
    return best_keys(tf.concat([best, found], axis=1), top_k)
