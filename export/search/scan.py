"""Exhaustive asymmetric search over codes in a TensorFlow graph, with standard ops alone.

Sorting all scores would cost more than computing them. So the scan keeps of each group of
neighbouring items the best score alone, finds the best groups, and scores their items again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .neighbours import FLOOR_SCORE, NO_POSITION, Admits, Neighbours

# Items scored at once for one query; for more queries so many fewer that the block's scores stay in
# the processor's cache.
ROWS_PER_BLOCK = 65_536
# Collections of no more items are one block for one query: blocks take a loop.
ROWS_IN_ONE_GO = 2 * ROWS_PER_BLOCK
SCORES_PER_BLOCK = 2**19
ROWS_PER_GROUP = 32
# From so many queries on, adding the entries up row by row is faster than storing them first.
MANY_QUERIES = 24
# So many rows TensorFlow's sum of segments adds from the first to the last.
MAX_ORDERED_ROWS = 9
# A query alone looks up several positions at once, in tables of so many entries at most.
MAX_FUSED_ENTRIES = 2**16
# Groups scored again beyond those wanted: where sums in another order round otherwise, the best
# items may lie in them. Items that share codes tie with many others.
SPARE_GROUPS = 64


class ScoreBlock(NamedTuple):
    """A way to score a block of codes `[code_length, rows]`.

    Attributes:
        call: From codes to scores `[rows, queries]`.
        is_ordered: Whether they are summed in the order of the positions.
    """

    call: Callable[[tf.Tensor], tf.Tensor]
    is_ordered: bool = True


def search_codes(
    tables: tf.Tensor,
    codes: Any,
    top_k: int | tf.Tensor,
    admits: Admits | None = None,
) -> Neighbours:
    """Find the items with the largest sums of table entries.

    Memory hardly grows with the collection: it takes the scores of a block, and in the end those
    of about `top_k * ROWS_PER_GROUP` items of one query at a time.

    Args:
        tables: float32 `[code_length, queries, num_codewords]`.
        codes: Integers `[code_length, num_items]`, a tensor or variable: position by position, so
            that each block is read in order.
        top_k: Number of items to find, at least 1; a scalar tensor if it is not known yet.
        admits: Says which items may be found: for positions `[rows]` bool `[rows, queries]`. All
            may if None.

    Returns:
        The best items. Scores are summed in the order of the code positions, like
        `tfpqn.ops.adc_scores`, and so are those that say which items are the best.
    """
    scan = _Scan(tables, codes, top_k, admits)
    is_small = codes.shape[1] <= ROWS_IN_ONE_GO
    alone = scan.search_in_one_go if is_small else scan.search_alone
    together = apart(lambda: _search_together(scan))
    return tf.cond(tf.equal(tf.shape(tables)[1], 1), alone, together)


def apart(function: Callable[[], Any]) -> Any:
    """The same as a function of its own in the graph, for a branch that is seldom taken.

    TensorFlow visits each op of a branch, taken or not, unless they lie in such a function.
    """
    if tf.executing_eagerly():
        return function
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


class _Scan(NamedTuple):
    """What the ways to search have in common; see `search_codes`."""

    tables: tf.Tensor
    codes: Any
    top_k: int | tf.Tensor
    admits: Admits | None

    @property
    def num_groups(self) -> int:
        return -(-self.codes.shape[1] // ROWS_PER_GROUP)

    def search_in_one_go(self) -> Neighbours:
        """The best items `[1, top_k]` of one query, of scores that are all held at once."""
        num_items = self.codes.shape[1]
        codes = tf.expand_dims(tf.cast(self.codes, tf.int32), 2)
        scores = score_positions(self.tables[:, 0], tf.unstack(codes))
        if self.admits is not None:
            scores = tf.where(self.admits(tf.range(num_items))[:, 0], scores, FLOOR_SCORE)
        scores = tf.pad(scores, [[0, -num_items % ROWS_PER_GROUP]], constant_values=FLOOR_SCORE)
        grouped = tf.reshape(scores, [-1, ROWS_PER_GROUP])
        count = tf.minimum(self.top_k, self.num_groups)
        groups = tf.sort(tf.math.top_k(tf.reduce_max(grouped, axis=1), count).indices)
        return _alone(self._rank(tf.reshape(tf.gather(grouped, groups), [-1]), _rows_of(groups)))

    def search_alone(self) -> Neighbours:
        """The same, block by block."""
        groups = self.find_groups(_score_fused(self.tables[:, 0]), ROWS_PER_BLOCK)
        return _alone(self.find_items(groups[0], tf.constant(0)))

    def find_groups(self, score: ScoreBlock, rows: int | tf.Tensor) -> tf.Tensor:
        """Numbers `[queries, count]` of the groups that hold the best items, ascending.

        The `top_k` best items lie in the `top_k` groups whose best items are best: whatever lies
        in another group is beaten by an item of each of these, or equal to it and behind it.
        """
        spare = 0 if score.is_ordered else SPARE_GROUPS
        count = tf.minimum(self.top_k + spare, self.num_groups)
        best = self._scan_blocks(score, rows, count)
        if not score.is_ordered:
            ordered = _score_together(self.tables)
            in_order = apart(lambda: self._scan_blocks(ordered, rows, count))
            best = tf.cond(self._is_certain(best.scores), lambda: best, in_order)
        return tf.sort(best.positions, axis=1)

    def find_items(self, groups: tf.Tensor, query: tf.Tensor) -> Neighbours:
        """The best items `[top_k]` of one query's groups `[count]`."""
        rows = _rows_of(groups)
        # The last group may be a short one.
        rows = tf.boolean_mask(rows, rows < self.codes.shape[1])
        codes = tf.cast(tf.gather(self.codes, rows, axis=1), tf.int32)
        scores = score_positions(self.tables[:, query], tf.unstack(tf.expand_dims(codes, 2)))
        if self.admits is not None:
            scores = tf.where(self.admits(rows, query)[:, 0], scores, FLOOR_SCORE)
        return self._rank(scores, rows)

    def _rank(self, scores: tf.Tensor, rows: tf.Tensor) -> Neighbours:
        """The best `[top_k]` of items `[count]` in ascending rows."""
        scores, order = tf.math.top_k(scores, tf.minimum(self.top_k, tf.size(rows)))
        # Items that are not admitted fill up where too few are.
        positions = tf.where(scores > FLOOR_SCORE, tf.gather(rows, order), NO_POSITION)
        missing = [[0, self.top_k - tf.size(scores)]]
        return Neighbours(
            tf.pad(scores, missing, constant_values=FLOOR_SCORE),
            tf.pad(positions, missing, constant_values=NO_POSITION),
        )

    def _is_certain(self, best: tf.Tensor) -> tf.Tensor:
        """Whether groups of maxima `[queries, count]` hold the best items, in any order of sums.

        Two orders of n numbers differ by less than 2 n u a, where u is half the distance of 1 and
        the next float32, and a is what the largest magnitudes of all positions add up to. So an
        item that is among the best in order misses the `top_k`-th maximum by less than twice that,
        and its group is not behind those that miss it by more.
        """
        num_groups = tf.shape(best)[1]
        last, wanted = best[:, -1], best[:, tf.minimum(self.top_k, num_groups) - 1]
        total = tf.reduce_sum(tf.reduce_max(tf.abs(self.tables), axis=2), axis=0)
        slack = total * (4 * self.tables.shape[0] * np.finfo(np.float32).epsneg)
        is_apart = (last < wanted - slack) | (last <= FLOOR_SCORE)
        return tf.reduce_all(is_apart) | tf.equal(num_groups, self.num_groups)

    def _scan_blocks(
        self, score: ScoreBlock, rows: int | tf.Tensor, count: tf.Tensor
    ) -> Neighbours:
        """Maxima and numbers `[queries, count]` of the best groups, in blocks of so many rows."""
        num_items = self.codes.shape[1]
        num_queries = tf.shape(self.tables)[1]

        def add_block(start: tf.Tensor, best: Neighbours) -> tuple[tf.Tensor, Neighbours]:
            maxima = self._group_maxima(score, start, rows)
            numbers = start // ROWS_PER_GROUP + tf.range(tf.shape(maxima)[1])
            # What is found first stands first: `top_k` prefers the earlier of equals.
            maxima = tf.concat([best.scores, maxima], axis=1)
            numbers = tf.broadcast_to(numbers, [num_queries, tf.shape(numbers)[0]])
            numbers = tf.concat([best.positions, numbers], axis=1)
            scores, order = tf.math.top_k(maxima, tf.minimum(count, tf.shape(maxima)[1]))
            return start + rows, Neighbours(scores, tf.gather(numbers, order, batch_dims=1))

        nothing = Neighbours(tf.zeros([num_queries, 0]), tf.zeros([num_queries, 0], tf.int32))
        any_width = tf.TensorShape([None, None])
        _, best = tf.while_loop(
            lambda start, best: start < num_items,
            add_block,
            (tf.constant(0), nothing),
            shape_invariants=(tf.TensorShape([]), Neighbours(any_width, any_width)),
            # Blocks in parallel would each hold their scores.
            parallel_iterations=1,
        )
        return best

    def _group_maxima(
        self, score: ScoreBlock, start: tf.Tensor, rows: int | tf.Tensor
    ) -> tf.Tensor:
        """The best scores `[queries, groups]` of the groups of a block."""
        scores = score.call(self.codes[:, start : start + rows])
        num_rows = tf.shape(scores)[0]
        if self.admits is not None:
            scores = tf.where(self.admits(start + tf.range(num_rows)), scores, FLOOR_SCORE)
        num_whole = num_rows // ROWS_PER_GROUP
        end = num_whole * ROWS_PER_GROUP
        grouped = tf.reshape(scores[:end], [num_whole, ROWS_PER_GROUP, tf.shape(scores)[1]])
        short = tf.reduce_max(scores[end:], axis=0, keepdims=True)[: tf.minimum(num_rows - end, 1)]
        return tf.transpose(tf.concat([tf.reduce_max(grouped, axis=1), short], axis=0))


def _search_together(scan: _Scan) -> Neighbours:
    """As `search_codes`, for any number of queries."""
    num_queries = tf.shape(scan.tables)[1]
    # Rows that no query gives cannot be stacked, so no query becomes one, which is cut off again.
    is_empty = tf.cast(tf.equal(num_queries, 0), tf.int32)
    scan = scan._replace(tables=tf.pad(scan.tables, [[0, 0], [0, is_empty], [0, 0]]))
    if scan.admits is not None:
        scan = scan._replace(admits=_pad_queries(scan.admits))
    rows = tf.minimum(ROWS_PER_BLOCK, SCORES_PER_BLOCK // tf.maximum(num_queries, 1))
    rows = tf.maximum(rows // ROWS_PER_GROUP, 1) * ROWS_PER_GROUP
    groups = tf.cond(
        num_queries < MANY_QUERIES,
        lambda: scan.find_groups(_score_together(scan.tables), rows),
        lambda: scan.find_groups(_score_by_rows(scan.tables, rows), rows),
    )
    width = None if tf.is_tensor(scan.top_k) else scan.top_k
    found = tf.map_fn(
        lambda query: scan.find_items(groups[query], query),
        tf.range(tf.shape(scan.tables)[1]),
        fn_output_signature=Neighbours(
            tf.TensorSpec([width], tf.float32), tf.TensorSpec([width], tf.int32)
        ),
    )
    return Neighbours(found.scores[:num_queries], found.positions[:num_queries])


def _rows_of(groups: tf.Tensor) -> tf.Tensor:
    """The rows of groups `[count]`, group after group."""
    return tf.reshape(groups[:, tf.newaxis] * ROWS_PER_GROUP + tf.range(ROWS_PER_GROUP), [-1])


def _alone(found: Neighbours) -> Neighbours:
    """What one query of one found."""
    return Neighbours(*(tf.expand_dims(values, 0) for values in found))


def _pad_queries(admits: Admits) -> Admits:
    """The same for one query where there is none."""

    def padded(positions: tf.Tensor, query: tf.Tensor | None = None) -> tf.Tensor:
        admitted = admits(positions, query)
        is_empty = tf.cast(tf.equal(tf.shape(admitted)[1], 0), tf.int32)
        return tf.pad(admitted, [[0, 0], [0, is_empty]])

    return padded


def score_positions(
    tables: tf.Tensor, codes: Sequence[tf.Tensor], start: tf.Tensor | None = None
) -> tf.Tensor:
    """Sums `[rows, ...]` of the entries of `[code_length, num_codewords, ...]` that codes name.

    The codes are int32 `[rows]` of each position, or `[rows, 1]`, which is faster where entries are
    single numbers. The sums go in the order of the positions, and begin with `start` if given.
    """
    entries = [] if start is None else [start]
    for table, own in zip(tf.unstack(tables), codes, strict=True):
        look_up = tf.gather if len(own.shape) == 1 else tf.gather_nd
        entries.append(look_up(table, own))
    scores = entries[0]
    # Eight at a time are added in one pass, from the first to the last.
    for first in range(1, len(entries), 7):
        scores = tf.add_n([scores, *entries[first : first + 7]])
    return scores


def _score_together(tables: tf.Tensor) -> ScoreBlock:
    """The entries of all queries lie together."""
    entries = tf.transpose(tables, [0, 2, 1])
    return ScoreBlock(lambda block: score_positions(entries, tf.unstack(tf.cast(block, tf.int32))))


def _score_by_rows(tables: tf.Tensor, rows_per_block: tf.Tensor) -> ScoreBlock:
    """As `_score_together`, on one processor core and without temporary tensors of that size."""
    code_length, _, num_codewords = tables.shape
    entries = tf.transpose(tables, [0, 2, 1])
    entries = tf.reshape(entries, [code_length * num_codewords, -1])
    firsts = tf.range(code_length) * num_codewords
    rows = tf.repeat(tf.range(rows_per_block), code_length)

    def score_block(block: tf.Tensor) -> tf.Tensor:
        numbers = tf.reshape(tf.cast(tf.transpose(block), tf.int32) + firsts, [-1])
        return tf.raw_ops.SparseSegmentSum(
            data=entries, indices=numbers, segment_ids=rows[: tf.shape(numbers)[0]]
        )

    return ScoreBlock(score_block, is_ordered=code_length <= MAX_ORDERED_ROWS)


def _score_fused(table: tf.Tensor) -> ScoreBlock:
    """Scores `[rows, 1]` of one query: several positions have one table of all their sums."""
    code_length, num_codewords = table.shape
    width = 1
    while width < code_length and num_codewords ** (width + 1) <= MAX_FUSED_ENTRIES:
        width += 1
    entries = tf.unstack(table)
    spans = [entries[first : first + width] for first in range(0, code_length, width)]
    sums = [
        functools.reduce(lambda one, other: tf.reshape(one[:, tf.newaxis] + other, [-1]), span)
        for span in spans
    ]

    def score_block(block: tf.Tensor) -> tf.Tensor:
        codes = iter(tf.unstack(tf.expand_dims(tf.cast(block, tf.int32), 2)))
        numbers = [
            functools.reduce(lambda high, low: high * num_codewords + low, islice(codes, len(span)))
            for span in spans
        ]
        terms = [tf.gather_nd(own, places) for own, places in zip(sums, numbers, strict=True)]
        return functools.reduce(tf.add, terms)[:, tf.newaxis]

    return ScoreBlock(score_block, is_ordered=width == 1)
