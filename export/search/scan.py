"""Exhaustive asymmetric search over codes in a TensorFlow graph, with standard ops alone.

Sorting all scores would cost more than computing them. So the scan takes of each group of
neighbouring items the best score alone, finds the best groups, and scores their items again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .filters import Admission
from .neighbours import FLOOR_SCORE, Neighbours, make_keys, missing_keys, read_keys
from .scoring import MAX_ORDERED_ROWS, ROWS_PER_GROUP, score_by_rows, score_one, score_pairs

# Items scored at once for one query.
ROWS_PER_BLOCK = 2**20
# From so many items on it pays to look up two positions first, in a table of 65,536 sums, and the
# others only in groups that may hold one of the best: at most one in so many groups.
MANY_ITEMS = 2**15
GROUPS_PER_PROMISING = 4
# From so many queries on they are scored together. So many items at once, and so many scores, stay
# in the processor's cache.
MANY_QUERIES = 8
ROWS_TOGETHER = 2**16
SCORES_TOGETHER = 2**19
# So many blocks of many queries are scored before the best are chosen, which takes as long as
# scoring would take if it were done after each. Two blocks, or queries, go at a time, if the
# request has two threads.
BLOCKS_PER_CHOICE = 8
AT_A_TIME = 2
# Groups scored beyond those wanted: where sums in another order round otherwise, the best
# items may lie in them. Items that share codes tie with many others.
SPARE_GROUPS = 64
# Of a filter that admits fewer, the items that it admits are scored alone.
ITEMS_PER_ADMITTED = 8


def search_codes(
    tables: tf.Tensor,
    planes: Any,
    num_items: int,
    top_k: int | tf.Tensor,
    admits: Admission | None = None,
) -> Neighbours:
    """Find the items with the largest sums of table entries.

    Memory hardly grows with the collection: it takes the scores of a block or some, and in the end
    those of about `top_k * ROWS_PER_GROUP` items of one query at a time.

    Args:
        tables: float32 `[code_length, queries, num_codewords]`.
        planes: The codes, a tensor or variable: see `pack_planes`.
        num_items: Number of items.
        top_k: Number of items to find, at least 1; a scalar tensor if it is not known yet.
        admits: Which items each query may find; all if None.

    Returns:
        The best items. Scores are summed in the order of the code positions, like
        `tfpqn.ops.adc_scores`, and so are those that say which items are the best.
    """
    scan = _Scan(tables, planes, num_items, top_k, admits)
    num_queries = tf.shape(tables)[1]
    if not num_items:
        return read_keys(missing_keys([num_queries, top_k]))

    def search_several() -> tf.Tensor:
        is_few = num_queries < MANY_QUERIES
        return tf.cond(is_few, scan.search_each, scan.search_together)

    # Nearly every request is one query: it meets no loop.
    keys = tf.cond(
        tf.equal(num_queries, 1),
        lambda: tf.expand_dims(scan.search_query(0), 0),
        apart(search_several),
    )
    return read_keys(keys)


def apart(function: Callable[[], Any]) -> Any:
    """The same as a function of its own in the graph, for a branch that is seldom taken.

    TensorFlow visits each op of a branch, taken or not, unless they lie in such a function.
    """
    if tf.executing_eagerly():
        return function
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def map_queries(find: Callable[[Any], Any], queries: Any, nothing: Any, at_a_time: int = 1) -> Any:
    """What `find` gives for each query, stacked.

    Args:
        find: From the values of one query to tensors.
        queries: Tensors `[queries, ...]`.
        nothing: What no queries give: `tf.map_fn` cannot stack rows of unknown width then.
        at_a_time: Queries at work at a time; each takes memory.
    """
    spec = tf.nest.map_structure(lambda own: tf.TensorSpec(own.shape[1:], own.dtype), nothing)
    return tf.cond(
        tf.shape(tf.nest.flatten(queries)[0])[0] > 0,
        lambda: tf.map_fn(find, queries, fn_output_signature=spec, parallel_iterations=at_a_time),
        lambda: nothing,
    )


class _Scan(NamedTuple):
    """What the ways to search have in common; see `search_codes`."""

    tables: tf.Tensor
    planes: Any
    num_items: int
    top_k: int | tf.Tensor
    admits: Admission | None

    @property
    def num_whole(self) -> int:
        """Number of groups that are full; fewer items than a group may follow."""
        return self.num_items // ROWS_PER_GROUP

    def search_each(self, search: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.Tensor:
        """Keys `[queries, top_k]` of the best items, of one query after the other."""
        queries = tf.range(tf.shape(self.tables)[1])
        nothing = missing_keys([0, self.top_k])
        return map_queries(search or self.search_query, queries, nothing, AT_A_TIME)

    def search_query(self, query: int | tf.Tensor) -> tf.Tensor:
        """Keys `[top_k]` of the best items of one query."""
        num_rows = self.planes.shape[1]
        nothing = missing_keys([self.top_k])
        if num_rows <= ROWS_PER_BLOCK:
            return self._add_block(query, 0, num_rows, nothing)

        def add_block(start: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = tf.minimum(start + ROWS_PER_BLOCK, num_rows)
            return end, self._add_block(query, start, end, best)

        _, best = tf.while_loop(
            lambda start, best: start < num_rows,
            add_block,
            (tf.constant(0), nothing),
            parallel_iterations=1,
        )
        return best

    def _add_block(
        self, query: int | tf.Tensor, start: int | tf.Tensor, end: int | tf.Tensor, best: tf.Tensor
    ) -> tf.Tensor:
        """Keys `[top_k]` of the best items of a block, and of those found before it.

        No item scores more than its first two positions add, and the largest entries of all others.
        One that misses the last of `top_k` items by more than rounding is none of the best. So most
        need no look at their other positions, but where items lie like those of random codes.
        """
        tables, planes = self.tables[:, query], self._block(start, end)

        def add_rows(rows: tf.Tensor) -> tf.Tensor:
            return self._add_items(tf.gather(self.planes, rows, axis=1), rows, query, best)

        def add_all(scores: tf.Tensor) -> tf.Tensor:
            if self.admits is not None:
                rows = tf.minimum(tf.range(start, end), self.num_items - 1)
                scores = tf.where(self.admits(rows, query), scores, FLOOR_SCORE)
            block = _GroupedScores(scores, start)
            # One more: what fills up the last group is no item.
            return add_rows(block.rows_from(block.last_of(self.top_k + 1) - slack))

        slack = self._slack()[query]
        has_pairs = self.planes.shape[0] < self.tables.shape[0]
        if not has_pairs or self.num_items < MANY_ITEMS:
            return add_all(score_one(tables, tf.stack(planes)))
        scores = score_pairs(tables[:2], planes[:1])
        block = _GroupedScores(scores, start)
        # A filter that admits fewer leads elsewhere.
        factor = 1 if self.admits is None else ITEMS_PER_ADMITTED
        likely = block.rows_from(block.last_of(factor * self.top_k + SPARE_GROUPS))
        last = read_keys(add_rows(likely)[-1]).scores
        least = last - tf.reduce_sum(tf.reduce_max(tables[2:], axis=1)) - slack
        num_promising = tf.math.count_nonzero(block.maxima >= least, dtype=tf.int32)
        return tf.cond(
            num_promising * GROUPS_PER_PROMISING <= tf.size(block.maxima),
            lambda: add_rows(block.rows_from(least)),
            apart(lambda: add_all(score_pairs(tables[2:], planes[1:], scores))),
        )

    def _block(self, start: int | tf.Tensor, end: int | tf.Tensor) -> list[tf.Tensor]:
        """The planes of some rows; sections of what lies in one row are no copies."""
        num_planes, num_rows = self.planes.shape
        planes = tf.reshape(self.planes, [-1])
        # There may be more bytes than an int32 counts.
        start, end = tf.cast(start, tf.int64), tf.cast(end, tf.int64)
        return [
            planes[own + start : own + end] for own in range(0, num_planes * num_rows, num_rows)
        ]

    def search_together(self) -> tf.Tensor:
        """Keys `[queries, top_k]` of the best items, of many queries.

        The `top_k` best items lie in the `top_k` groups whose best items are best: whatever lies
        in another group is beaten by an item of each of these, or equal to it and behind it.
        """
        is_ordered = self.tables.shape[0] <= MAX_ORDERED_ROWS
        wanted = self.top_k if is_ordered else self.top_k + SPARE_GROUPS
        best = self._scan_blocks(tf.minimum(wanted, self.num_whole))
        groups = tf.sort(best.positions, axis=1)

        def find_items() -> tf.Tensor:
            return self.search_each(lambda query: self._find_items(groups[query], query))

        if is_ordered:
            return find_items()
        return tf.cond(self._is_certain(best.scores), find_items, self.search_each)

    def _find_items(self, groups: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """Keys `[top_k]` of one query's best items of whole groups `[count]` and what follows."""
        if self.num_items % ROWS_PER_GROUP:
            groups = tf.concat([groups, [self.num_whole]], axis=0)
        rows = tf.reshape(groups[:, tf.newaxis] * ROWS_PER_GROUP + tf.range(ROWS_PER_GROUP), [-1])
        num_planes, num_rows = self.planes.shape
        # Group by group: item by item would take several times as long.
        grouped = tf.reshape(self.planes, [num_planes, num_rows // ROWS_PER_GROUP, ROWS_PER_GROUP])
        planes = tf.reshape(tf.gather(grouped, groups, axis=1), [num_planes, -1])
        return self._add_items(planes, rows, query, missing_keys([self.top_k]))

    def _add_items(
        self, planes: tf.Tensor, rows: tf.Tensor, query: int | tf.Tensor, best: tf.Tensor
    ) -> tf.Tensor:
        """Keys `[top_k]` of the best of `best` and of items at `rows`, which have these planes."""
        scores = score_one(self.tables[:, query], planes)
        is_item = rows < self.num_items
        if self.admits is not None:
            is_item &= self.admits(tf.minimum(rows, self.num_items - 1), query)
        keys = tf.where(is_item, make_keys(scores, rows), missing_keys([]))
        return tf.math.top_k(tf.concat([keys, best], axis=0), self.top_k).values

    def _is_certain(self, best: tf.Tensor) -> tf.Tensor:
        """Whether groups of maxima `[queries, count]` hold the best items, in any order of sums.

        An item that is among the best in order misses the `top_k`-th maximum by less than the
        slack, and its group is not behind those that miss it by more.
        """
        num_groups = tf.shape(best)[1]
        last, wanted = best[:, -1], best[:, tf.minimum(self.top_k, num_groups) - 1]
        is_apart = (last < wanted - self._slack()) | (last <= FLOOR_SCORE)
        return tf.reduce_all(is_apart) | tf.equal(num_groups, self.num_whole)

    def _slack(self) -> tf.Tensor:
        """float32 `[queries]`, twice of what sums in two orders differ by less.

        Two orders of n numbers differ by less than 2 n u a, where u is half the distance of 1 and
        the next float32, and a is what the largest magnitudes of all positions add up to.
        """
        total = tf.reduce_sum(tf.reduce_max(tf.abs(self.tables), axis=2), axis=0)
        return total * (4 * self.tables.shape[0] * np.finfo(np.float32).epsneg)

    def _scan_blocks(self, count: tf.Tensor) -> Neighbours:
        """Maxima and numbers `[queries, count]` of the best whole groups."""
        num_queries = tf.shape(self.tables)[1]
        rows = tf.minimum(ROWS_TOGETHER, SCORES_TOGETHER // num_queries)
        rows = tf.maximum(rows // ROWS_PER_GROUP, 1) * ROWS_PER_GROUP
        score = score_by_rows(self.tables, rows)
        # No block is smaller than a group: a small collection has no more blocks than groups.
        num_blocks = max(min(BLOCKS_PER_CHOICE, self.num_whole), 1)

        def find_maxima(start: tf.Tensor) -> tf.Tensor:
            limit = self.num_whole * ROWS_PER_GROUP
            start, end = tf.minimum(start, limit), tf.minimum(start + rows, limit)
            scores = score(self._block(start, end))
            if self.admits is not None:
                scores = tf.where(self.admits(tf.range(start, end)), scores, FLOOR_SCORE)
            return tf.reduce_max(tf.reshape(scores, [-1, ROWS_PER_GROUP, num_queries]), axis=1)

        def add_blocks(first: tf.Tensor, best: Neighbours) -> tuple[tf.Tensor, Neighbours]:
            blocks: list[tf.Tensor] = []
            for number in range(num_blocks):
                # A block more would leave the processor's cache.
                with tf.control_dependencies(blocks[-AT_A_TIME:][:1]):
                    start = tf.identity(first + number * rows)
                blocks.append(find_maxima(start))
            maxima = tf.transpose(tf.concat(blocks, axis=0))
            numbers = first // ROWS_PER_GROUP + tf.range(tf.shape(maxima)[1])
            # What is found first stands first: `top_k` prefers the earlier of equals.
            maxima = tf.concat([best.scores, maxima], axis=1)
            numbers = tf.broadcast_to(numbers, [num_queries, tf.shape(numbers)[0]])
            numbers = tf.concat([best.positions, numbers], axis=1)
            scores, order = tf.math.top_k(maxima, tf.minimum(count, tf.shape(maxima)[1]))
            found = Neighbours(scores, tf.gather(numbers, order, batch_dims=1))
            return first + num_blocks * rows, found

        nothing = Neighbours(tf.zeros([num_queries, 0]), tf.zeros([num_queries, 0], tf.int32))
        any_width = tf.TensorShape([None, None])
        _, best = tf.while_loop(
            lambda first, best: first < self.num_whole * ROWS_PER_GROUP,
            add_blocks,
            (tf.constant(0), nothing),
            shape_invariants=(tf.TensorShape([]), Neighbours(any_width, any_width)),
            # More blocks at a time would each hold their scores.
            parallel_iterations=1,
        )
        return best


class _GroupedScores:
    """Scores `[rows]` of a block of one query, in groups.

    Args:
        scores: float32 `[rows]`, of whole groups.
        start: The row of the first.
    """

    def __init__(self, scores: tf.Tensor, start: int | tf.Tensor) -> None:
        self.scores = tf.reshape(scores, [-1, ROWS_PER_GROUP])
        self.maxima = tf.reduce_max(self.scores, axis=1)
        self.start = start

    def last_of(self, count: int | tf.Tensor) -> tf.Tensor:
        """What so many items score at least; less than all where there are fewer groups."""
        maxima = tf.concat([self.maxima, tf.fill([count], FLOOR_SCORE)], axis=0)
        return tf.math.top_k(maxima, count).values[-1]

    def rows_from(self, least: tf.Tensor) -> tf.Tensor:
        """The rows that score no less, int32 `[count]`, ascending."""
        groups = tf.where(self.maxima >= least)[:, 0]
        places = tf.cast(tf.where(tf.gather(self.scores, groups) >= least), tf.int32)
        groups = tf.gather(tf.cast(groups, tf.int32), places[:, 0])
        return self.start + groups * ROWS_PER_GROUP + places[:, 1]
