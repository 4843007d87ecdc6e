"""Search over inverted lists in a TensorFlow graph, with standard ops alone.

Lists lie in blocks of as many items, the last of a list filled up. So whole blocks of all probed
lists are gathered and scored in one go for all queries, and the keys of each query's items fill a
row of a dense matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .filters import Admission
from .neighbours import (
    FLOOR_SCORE,
    NO_POSITION,
    Neighbours,
    make_keys,
    missing_keys,
    read_keys,
)
from .scan import apart, map_queries
from .scoring import add_in_order, negate_rest, unpack_codes

# Items of a block: with fewer there are more blocks to gather, with more more is filled up.
ROWS_PER_BLOCK = 32
# Items scored at once, at most, unless a single list is larger.
ROWS_PER_CHUNK = 2**19
# From so many lists on, the best are found by groups: for many queries that takes a third of the
# time.
MANY_LISTS = 1024
LISTS_PER_GROUP = 16


class Lists(NamedTuple):
    """Items grouped into lists of blocks.

    Attributes:
        words: The codes, block after block: integers `[num_blocks, rows, num_words]`, see
            `pack_codes`.
        code_dtype: Dtype of the codes when unpacked.
        positions: int32 `[num_blocks, rows]`, the position in the collection of each item;
            `NO_POSITION` in what fills up a block.
        bounds: int64 `[num_lists + 1, 2]`, the first block of each list and the one after its last;
            the last list is an empty one.
        longest: Number of blocks of the longest list.
    """

    words: tf.Tensor
    code_dtype: tf.DType
    positions: tf.Tensor
    bounds: tf.Tensor
    longest: int


def fill_blocks(order: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and bounds, see `Lists`, of positions in the order of lists of such lengths."""
    ends = np.cumsum(-(-lengths // ROWS_PER_BLOCK))
    ends = np.append(ends, ends[-1])
    bounds = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    positions = np.full(ends[-1] * ROWS_PER_BLOCK, NO_POSITION, np.int32)
    skipped = bounds[:-1, 0] * ROWS_PER_BLOCK - (np.cumsum(lengths) - lengths)
    positions[np.arange(len(order)) + np.repeat(skipped, lengths)] = order
    return positions.reshape(-1, ROWS_PER_BLOCK), bounds


def search_lists(
    tables: tf.Tensor,
    list_scores: tf.Tensor,
    lists: Lists,
    top_k: int | tf.Tensor,
    num_probes: int | tf.Tensor,
    admits: Admission | None = None,
    margin: float | None = None,
) -> Neighbours:
    """Find the best items of the best lists.

    A query that finds fewer than `top_k` items in its lists goes on to all others.

    Args:
        tables: float32 `[code_length, queries, num_codewords]`.
        list_scores: float32 `[queries, num_lists]`; lists with larger ones are looked at.
        lists: The collection.
        top_k: Number of items to find, at least 1.
        num_probes: Lists to look at, for each query; a scalar or `[queries]`.
        admits: Says which items may be found; all may if None.
        margin: Where all queries look at as many, lists are passed over whose score misses the
            query's largest one by more, unless the better lists are short.

    Returns:
        The best items, equal scores in ascending position.
    """
    num_probes = _smaller(num_probes, list_scores.shape[1])
    own_probes = None
    if not isinstance(num_probes, int) and num_probes.shape.rank:
        own_probes = tf.expand_dims(num_probes, 1)
        num_probes = tf.maximum(tf.reduce_max(num_probes), 1)
    tables = negate_rest(tables)
    search = _Search(tables, list_scores, lists, top_k, num_probes, own_probes, admits, margin)
    # Nearly every request is one query that finds enough at once: its path is a short one.
    best = search.find_alone()
    keys = tf.cond(search.is_all(best), lambda: best, apart(search.find_together))
    keys.set_shape([None, search.width])
    return read_keys(keys)


def _best_lists(list_scores: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and numbers of the best lists, `[queries, count]`, best first."""
    num_lists = list_scores.shape[1]
    if num_lists < MANY_LISTS:
        return tf.math.top_k(list_scores, count)
    padding = [[0, 0], [0, -num_lists % LISTS_PER_GROUP]]
    scores = tf.pad(list_scores, padding, constant_values=-np.inf)
    num_groups = scores.shape[1] // LISTS_PER_GROUP
    scores = tf.reshape(scores, [-1, num_groups, LISTS_PER_GROUP])
    # They lie in the groups with the best maxima.
    num_best = _smaller(count, num_groups)
    groups = tf.math.top_k(tf.reduce_max(scores, axis=2), num_best).indices
    lists = tf.expand_dims(groups * LISTS_PER_GROUP, 2) + np.arange(LISTS_PER_GROUP, dtype=np.int32)
    shape = [-1, num_best * LISTS_PER_GROUP]
    candidates = tf.reshape(tf.gather(scores, groups, batch_dims=1), shape)
    best, order = tf.math.top_k(candidates, count)
    return best, tf.gather(tf.reshape(lists, shape), order, batch_dims=1)


def _smaller(number: int | tf.Tensor, limit: int) -> int | tf.Tensor:
    """The smaller number, one of the graph only if it must be."""
    return tf.minimum(number, limit) if tf.is_tensor(number) else min(number, limit)


class _Search(NamedTuple):
    """What the passes of a search have in common; see `search_lists` and `negate_rest`.

    The largest number of lists is `num_probes`; `own_probes` `[queries, 1]` are those of each query
    where they differ.
    """

    signed_tables: tf.Tensor
    list_scores: tf.Tensor
    lists: Lists
    top_k: int | tf.Tensor
    num_probes: int | tf.Tensor
    own_probes: tf.Tensor | None
    admits: Admission | None
    margin: float | None

    @property
    def width(self) -> int | None:
        return None if tf.is_tensor(self.top_k) else self.top_k

    @property
    def lists_per_chunk(self) -> int:
        return max(ROWS_PER_CHUNK // (self.lists.longest * ROWS_PER_BLOCK), 1)

    @property
    def num_first(self) -> int | tf.Tensor:
        """Lists that each query looks at first; those that no chunk holds are left for later."""
        return _smaller(self.num_probes, self.lists_per_chunk)

    def is_all(self, keys: tf.Tensor) -> tf.Tensor:
        """Whether the keys that are found first are all that is wanted."""
        is_full = tf.reduce_min(keys) > missing_keys([])
        if tf.is_tensor(self.num_probes) or self.num_first < self.num_probes:
            is_full &= tf.equal(self.num_first, self.num_probes)
        return is_full

    def find_alone(self) -> tf.Tensor:
        """Keys `[1, top_k]` of the best items of one query; with other queries none is found."""
        is_alone = tf.equal(tf.size(self.list_scores), self.list_scores.shape[1])
        count = self.num_first * tf.cast(is_alone, tf.int32)
        scores, chosen = tf.math.top_k(tf.reshape(self.list_scores, [-1]), count)
        chosen = self._pass_over(scores, chosen)
        starts, limits = tf.unstack(tf.gather(self.lists.bounds, chosen), axis=1)
        blocks = tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=np.int64(1))
        keys = self._score_blocks(blocks.rt_dense_values)
        return self._choose(tf.reshape(keys, [1, -1]), missing_keys([1, self.top_k]))

    def find_together(self) -> tf.Tensor:
        """Keys `[queries, top_k]` of the best items of any number of queries."""
        probed = self._pass_over(*_best_lists(self.list_scores, self.num_first))
        num_queries = tf.shape(probed)[0]
        # Most lists are not as long as the longest.
        chunk = self.lists_per_chunk // self.num_first
        num_blocks = tf.reduce_sum(self._count_blocks(probed))
        is_chunk = num_blocks <= ROWS_PER_CHUNK // ROWS_PER_BLOCK
        num_best = tf.where(is_chunk, num_queries, chunk)

        def find_chunk(first: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
            chosen = probed[first : first + count]
            nothing = missing_keys([tf.shape(chosen)[0], self.top_k])
            return self._add_lists(first, chosen, nothing)

        best = find_chunk(tf.constant(0), num_best)

        def add_chunk(first: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return first + chunk, tf.concat([keys, find_chunk(first, chunk)], axis=0)

        def go_on() -> tf.Tensor:
            _, keys = tf.while_loop(
                lambda first, keys: first < num_queries,
                add_chunk,
                (num_best, best),
                shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, self.width])),
                parallel_iterations=1,
            )
            return self._look_further(probed, keys)

        is_done = (num_queries <= num_best) & self.is_all(best)
        return tf.cond(is_done, lambda: best, apart(go_on))

    def _pass_over(self, scores: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Lists `[..., count]`, the empty one in place of those that a query does not look at.

        These are beyond its own number, or miss its best list by the margin. Better lists hold at
        least `top_k` items then: no list fills up as much as a block.
        """
        if self.own_probes is not None and len(chosen.shape) == 2:
            is_own = tf.range(tf.shape(chosen)[1]) < self.own_probes
            return tf.where(is_own, chosen, self.list_scores.shape[1])
        if self.margin is None:
            return chosen
        enough = self.top_k // ROWS_PER_BLOCK + self.num_first + 1
        num_better = tf.cumsum(self._count_blocks(chosen), axis=-1, exclusive=True)
        is_near = scores >= tf.reduce_max(scores, axis=-1, keepdims=True) - self.margin
        is_wanted = is_near | (num_better < tf.cast(enough, tf.int64))
        return tf.where(is_wanted, chosen, self.list_scores.shape[1])

    def _count_blocks(self, chosen: tf.Tensor) -> tf.Tensor:
        """int64, blocks of each of the lists."""
        starts, limits = tf.unstack(tf.gather(self.lists.bounds, chosen), axis=-1)
        return limits - starts

    def _look_further(self, probed: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Keys `[queries, top_k]` after the lists that are left, but for the probed ones."""
        keys.set_shape([None, self.width])
        wanted, _ = tf.math.top_k(self.list_scores, self.num_probes)
        least = wanted[:, -1:]
        if self.own_probes is not None:
            least = tf.gather(wanted, self.own_probes - 1, batch_dims=1)
        if self.margin is not None:
            least = tf.maximum(least, wanted[:, :1] - self.margin)
        is_left = (self.list_scores >= least) | (keys[:, -1:] <= missing_keys([]))

        def search_query(query: tf.Tensor) -> tf.Tensor:
            places = tf.one_hot(probed[query], tf.shape(is_left)[1], True, False, dtype=tf.bool)
            rest = tf.where(is_left[query] & ~tf.reduce_any(places, axis=0))
            rest = tf.reshape(tf.cast(rest, tf.int32), [1, -1])

            def add_chunk(first: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                last = first + self.lists_per_chunk
                return last, self._add_lists(query, rest[:, first:last], best)

            _, best = tf.while_loop(
                lambda first, best: first < tf.size(rest),
                add_chunk,
                (tf.constant(0), keys[query : query + 1]),
                shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, self.width])),
                parallel_iterations=1,
            )
            return best[0]

        return map_queries(search_query, tf.range(tf.shape(probed)[0]), keys)

    def _add_lists(self, first: tf.Tensor, chosen: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
        """Keys `[queries, top_k]`: the best of `best` and of lists `[queries, count]`.

        The queries are those from the `first` on.
        """
        num_queries, count = tf.unstack(tf.shape(chosen))
        # A block is the low half of a number, its query the high one.
        queries = tf.bitwise.left_shift(tf.range(tf.cast(num_queries, tf.int64)), np.int64(32))
        bounds = tf.gather(self.lists.bounds, chosen) + tf.reshape(queries, [-1, 1, 1])
        starts, limits = tf.unstack(tf.reshape(bounds, [-1, 2]), axis=1)
        ranges = tf.raw_ops.RaggedRange(starts=starts, limits=limits, deltas=np.int64(1))
        blocks, owners = tf.unstack(tf.bitcast(ranges.rt_dense_values, tf.int32), axis=1)
        keys = tf.raw_ops.RaggedTensorToTensor(
            shape=tf.constant([-1, -1, ROWS_PER_BLOCK], tf.int64),
            values=self._score_blocks(blocks, owners + first, tf.shape(self.list_scores)[0]),
            default_value=missing_keys([]),
            row_partition_tensors=[ranges.rt_nested_splits[::count]],
            row_partition_types=["ROW_SPLITS"],
        )
        width = tf.shape(keys)[1] * ROWS_PER_BLOCK
        return self._choose(tf.reshape(keys, [num_queries, width]), best)

    def _score_blocks(
        self, blocks: tf.Tensor, owners: int | tf.Tensor = 0, num_queries: int | tf.Tensor = 1
    ) -> tf.Tensor:
        """Keys `[count, ROWS_PER_BLOCK]` of the items of blocks `[count]`.

        Each block is scored for one query, its owner among so many.
        """
        code_length, _, num_codewords = self.signed_tables.shape
        words = tf.gather(self.lists.words, blocks)
        codes = tf.unstack(unpack_codes(words, self.lists.code_dtype), axis=2)
        # Position by position, as places in one table of all.
        firsts = np.arange(code_length, dtype=np.int32)[:, np.newaxis] * num_queries + owners
        places = tf.cast(tf.stack(codes), tf.int32) + tf.expand_dims(firsts * num_codewords, 2)
        entries = tf.gather_nd(tf.reshape(self.signed_tables, [-1]), tf.expand_dims(places, 3))
        scores = add_in_order(tf.unstack(entries))
        positions = tf.gather(self.lists.positions, blocks)
        is_item = positions >= 0
        if self.admits is not None:
            queries = owners if isinstance(owners, int) else tf.expand_dims(owners, 1)
            is_item &= self.admits(tf.maximum(positions, 0), queries)
            positions = tf.where(is_item, positions, NO_POSITION)
        return make_keys(tf.where(is_item, scores, FLOOR_SCORE), positions)

    def _choose(self, keys: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
        """The best `[queries, top_k]` of both."""
        # What is missing yet stands last: `top_k` takes longest where a row begins with its worst.
        keys = tf.math.top_k(tf.concat([keys, best], axis=1), self.top_k).values
        keys.set_shape([None, self.width])
        return keys
