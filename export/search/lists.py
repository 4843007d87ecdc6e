"""Search over inverted lists in a TensorFlow graph, with standard ops alone.

The items of the probed lists are scored in one go for all queries: `RaggedGather` copies whole
lists, which lie contiguous, and the keys of each query's items fill a row of a dense matrix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .neighbours import (
    FLOOR_SCORE,
    Admits,
    Neighbours,
    make_keys,
    missing_keys,
    read_keys,
)
from .scan import apart
from .scoring import score_positions

# Items scored at once, at most, unless a single list is larger.
ROWS_PER_CHUNK = 2**19
# From so many lists on, the best are found by groups: for many queries that takes a third of the
# time.
MANY_LISTS = 1024
LISTS_PER_GROUP = 16


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


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """Codes `[num_items, code_length]` in words `[num_items, num_words]` as wide as fit.

    The ops that gather lists copy number by number, whatever their width.
    """
    num_bytes = codes.shape[1] * codes.itemsize
    width = next(width for width in (8, 4, 2, 1) if num_bytes % width == 0)
    little_endian = np.ascontiguousarray(codes, codes.dtype.newbyteorder("<"))
    return little_endian.view("<i8" if width == 8 else f"<u{width}")


def unpack_codes(words: tf.Tensor, code_dtype: tf.DType) -> tf.Tensor:
    """Codes `[rows, 1, code_length]` of words `[rows, num_words]`, see `score_positions`."""
    if words.dtype.size > code_dtype.size:
        words = tf.bitcast(words, code_dtype)
    width = int(np.prod(words.shape[1:]))
    return words if words.shape[1:] == (1, width) else tf.reshape(words, [-1, 1, width])


def numbers_of_rows(lengths: tf.Tensor) -> tf.Tensor:
    """int32 `[sum(lengths)]`: 0 `lengths[0]` times, then 1 `lengths[1]` times, and so on.

    As `tf.repeat`, in ops that grow with the result alone.
    """
    # A row's number is the high half of what a range counts, a value's place in its row the low.
    half = tf.constant(32, tf.int64)
    firsts = tf.bitwise.left_shift(tf.range(tf.size(lengths, tf.int64)), half)
    limits = firsts + tf.cast(lengths, tf.int64)
    ranges = tf.raw_ops.RaggedRange(starts=firsts, limits=limits, deltas=np.int64(1))
    return tf.bitcast(ranges.rt_dense_values, tf.int32)[:, 1]


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
    # Nearly every request is one query that finds enough at once: it meets no loop.
    best, is_enough = _search_alone(scan, list_scores, num_probes)
    keys = tf.cond(is_enough, lambda: best, apart(search_all))
    keys.set_shape([None, scan.width])
    return read_keys(keys)


def _search_alone(
    scan: _Scan, list_scores: tf.Tensor, num_probes: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Keys `[1, top_k]` of one query's best items, and whether they are all that is wanted."""
    num_first = _smaller(num_probes, scan.lists_per_chunk)
    # With other queries no list is looked at, so nothing is found.
    is_alone = tf.equal(tf.size(list_scores), list_scores.shape[1])
    chosen = tf.math.top_k(list_scores[:1], num_first * tf.cast(is_alone, tf.int32)).indices
    words, positions = _gather_lists(scan.lists, tf.reshape(chosen, [-1]))
    codes = tf.cast(unpack_codes(words.output_dense_values, scan.lists.code_dtype), tf.int32)
    entries = tf.reshape(scan.tables, [scan.tables.shape[0], -1])
    scores = score_positions(entries, tf.unstack(codes, axis=2))
    keys = make_keys(scores, positions.output_dense_values)
    num_items = tf.size(keys)
    best = tf.math.top_k(keys, tf.minimum(scan.top_k, num_items)).values
    is_enough = num_items >= scan.top_k
    if num_first is not num_probes:
        is_enough &= tf.equal(num_first, num_probes)
    return tf.expand_dims(best, 0), is_enough


def _best_lists(list_scores: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """What `top_k` finds, int32 `[queries, count]`, in the groups of lists with the best maxima."""
    num_lists = list_scores.shape[1]
    count = tf.minimum(count, num_lists)
    if num_lists < MANY_LISTS:
        return tf.math.top_k(list_scores, count).indices
    padding = [[0, 0], [0, -num_lists % LISTS_PER_GROUP]]
    scores = tf.pad(list_scores, padding, constant_values=-np.inf)
    num_groups = scores.shape[1] // LISTS_PER_GROUP
    scores = tf.reshape(scores, [-1, num_groups, LISTS_PER_GROUP])
    maxima = tf.reduce_max(scores, axis=2)
    # Ascending, as `top_k` prefers the earlier of equals.
    groups = tf.sort(tf.math.top_k(maxima, tf.minimum(count, num_groups)).indices, axis=1)
    lists = groups[:, :, tf.newaxis] * LISTS_PER_GROUP + tf.range(LISTS_PER_GROUP)
    shape = tf.shape(groups) * [1, LISTS_PER_GROUP]
    candidates = tf.reshape(tf.gather(scores, groups, batch_dims=1), shape)
    order = tf.math.top_k(candidates, count).indices
    return tf.gather(tf.reshape(lists, shape), order, batch_dims=1)


def _smaller(number: int | tf.Tensor, limit: int) -> int | tf.Tensor:
    """The smaller number, one of the graph only if it must be."""
    return tf.minimum(number, limit) if tf.is_tensor(number) else min(number, limit)


def _search_all(
    scan: _Scan, list_scores: tf.Tensor, num_probes: int | tf.Tensor, bounds: tf.Tensor | None
) -> tf.Tensor:
    """Keys `[queries, top_k]` of the best items, as `search_lists` finds them."""
    # What does not fit into one chunk is left to the second pass.
    num_first = _smaller(num_probes, scan.lists_per_chunk)
    probed = _best_lists(list_scores, num_first)
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
        keys = self._score_lists(first, last, chosen)
        # What is missing yet stands last: `top_k` takes longest where a row begins with its worst.
        best = tf.math.top_k(tf.concat([keys, best], axis=1), self.top_k).values
        best.set_shape([None, self.width])
        return best

    def _score_lists(self, first: tf.Tensor, last: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Keys `[last - first, width]` of the items of lists `[last - first, count]`."""
        code_length, _, num_codewords = self.tables.shape
        words, positions = _gather_lists(self.lists, tf.reshape(chosen, [-1]))
        # Where each query begins among the gathered items.
        starts = words.output_nested_splits[0][:: tf.shape(chosen)[1]]
        offsets = tf.expand_dims(numbers_of_rows(starts[1:] - starts[:-1]) * num_codewords, 1)
        codes = tf.unstack(unpack_codes(words.output_dense_values, self.lists.code_dtype), axis=2)
        entries = tf.reshape(self.tables[:, first:last], [code_length, -1])
        scores = score_positions(entries, [tf.cast(own, tf.int32) + offsets for own in codes])
        keys = make_keys(scores, positions.output_dense_values)
        if self.admits is not None:
            # Of one query.
            is_admitted = self.admits(positions.output_dense_values, first)[:, 0]
            keys = tf.where(is_admitted, keys, missing_keys([]))
        return tf.raw_ops.RaggedTensorToTensor(
            shape=tf.constant([-1, -1], tf.int64),
            values=keys,
            default_value=missing_keys([]),
            row_partition_tensors=[starts],
            row_partition_types=["ROW_SPLITS"],
        )


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
