"""Exhaustive asymmetric search over codes in a TensorFlow graph, with standard ops alone.

Sorting all scores would cost more than computing them. So the scan keeps of each group of
neighbouring items the best score alone, finds the best groups, and scores their items again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .neighbours import FLOOR_SCORE, NO_POSITION, Admits, Neighbours

# Items scored at once for one query; for more queries so many fewer that the block's scores stay in
# the processor's cache.
ROWS_PER_BLOCK = 65_536
SCORES_PER_BLOCK = 2**19
ROWS_PER_GROUP = 32
# From so many queries on, adding the entries up row by row is faster than storing them first.
MANY_QUERIES = 24
# A query alone looks up several positions at once, in tables of so many entries at most.
MAX_FUSED_ENTRIES = 2**16
# Sums in another order round otherwise: so many more groups than needed are scored again.
SPARE_GROUPS = 8

ScoreBlock = Callable[[tf.Tensor], tf.Tensor]


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
        `tfpqn.ops.adc_scores`.
    """
    num_queries = tf.shape(tables)[1]
    # Rows that no query gives cannot be stacked, so no query becomes one, which is cut off again.
    tables = tf.pad(tables, [[0, 0], [0, tf.cast(tf.equal(num_queries, 0), tf.int32)], [0, 0]])
    if admits is not None:
        admits = _pad_queries(admits)
    groups = _find_groups(tables, codes, top_k, admits)
    width = None if tf.is_tensor(top_k) else top_k
    found = tf.map_fn(
        lambda query: _find_items(tables[:, query], groups[query], codes, top_k, admits, query),
        tf.range(tf.shape(tables)[1]),
        fn_output_signature=Neighbours(
            tf.TensorSpec([width], tf.float32), tf.TensorSpec([width], tf.int32)
        ),
    )
    return Neighbours(found.scores[:num_queries], found.positions[:num_queries])


def _find_items(
    table: tf.Tensor,
    groups: tf.Tensor,
    codes: Any,
    top_k: int | tf.Tensor,
    admits: Admits | None,
    query: tf.Tensor,
) -> Neighbours:
    """The best items `[top_k]` of one query's groups `[count]`."""
    rows = tf.reshape(groups[:, tf.newaxis] * ROWS_PER_GROUP + tf.range(ROWS_PER_GROUP), [-1])
    # The last group may be a short one.
    rows = tf.boolean_mask(rows, rows < tf.shape(codes)[1])
    own = tf.cast(tf.gather(codes, rows, axis=1), tf.int32)
    scores = score_positions(table, tf.unstack(tf.expand_dims(own, 2)))
    if admits is not None:
        scores = tf.where(admits(rows, query)[:, 0], scores, FLOOR_SCORE)
    scores, order = tf.math.top_k(scores, tf.minimum(top_k, tf.shape(rows)[0]))
    # Items that are not admitted fill up where too few are.
    positions = tf.where(scores > FLOOR_SCORE, tf.gather(rows, order), NO_POSITION)
    missing = [[0, top_k - tf.shape(scores)[0]]]
    return Neighbours(
        tf.pad(scores, missing, constant_values=FLOOR_SCORE),
        tf.pad(positions, missing, constant_values=NO_POSITION),
    )


def _pad_queries(admits: Admits) -> Admits:
    """The same for one query where there is none."""

    def padded(positions: tf.Tensor, query: tf.Tensor | None = None) -> tf.Tensor:
        admitted = admits(positions, query)
        is_empty = tf.cast(tf.equal(tf.shape(admitted)[1], 0), tf.int32)
        return tf.pad(admitted, [[0, 0], [0, is_empty]])

    return padded


def _find_groups(
    tables: tf.Tensor,
    codes: Any,
    top_k: int | tf.Tensor,
    admits: Admits | None,
) -> tf.Tensor:
    """Numbers `[queries, count]` of the groups that hold the best items, ascending.

    The `top_k` best items lie in the `top_k` groups whose best items are best: whatever lies in
    another group is beaten by an item of each of these, or equal to it and behind it.
    """
    num_queries = tf.shape(tables)[1]
    num_wanted = tf.minimum(top_k + SPARE_GROUPS, -(-tf.shape(codes)[1] // ROWS_PER_GROUP))
    rows = tf.minimum(ROWS_PER_BLOCK, SCORES_PER_BLOCK // tf.maximum(num_queries, 1))
    rows = tf.maximum(rows // ROWS_PER_GROUP, 1) * ROWS_PER_GROUP

    def scan(score_block: ScoreBlock) -> tf.Tensor:
        return _scan_blocks(score_block, codes, rows, num_queries, num_wanted, admits)

    return tf.case(
        [
            (tf.equal(num_queries, 1), lambda: scan(_score_fused(tables[:, 0]))),
            (num_queries < MANY_QUERIES, lambda: scan(_score_together(tables))),
        ],
        default=lambda: scan(_score_by_rows(tables, rows)),
    )


def _scan_blocks(
    score_block: ScoreBlock,
    codes: Any,
    rows: tf.Tensor,
    num_queries: tf.Tensor,
    num_wanted: tf.Tensor,
    admits: Admits | None,
) -> tf.Tensor:
    """The numbers that `_find_groups` returns, found block by block of so many rows."""

    def add_block(start: tf.Tensor, best: Neighbours) -> tuple[tf.Tensor, Neighbours]:
        scores = score_block(codes[:, start : start + rows])
        if admits is not None:
            positions = start + tf.range(tf.shape(scores)[0])
            scores = tf.where(admits(positions), scores, FLOOR_SCORE)
        maxima = tf.transpose(_group_maxima(scores))
        numbers = start // ROWS_PER_GROUP + tf.range(tf.shape(maxima)[1])
        # What is found first stands first: `top_k` prefers the earlier of equals.
        maxima = tf.concat([best.scores, maxima], axis=1)
        numbers = tf.broadcast_to(numbers, [num_queries, tf.shape(numbers)[0]])
        numbers = tf.concat([best.positions, numbers], axis=1)
        scores, order = tf.math.top_k(maxima, tf.minimum(num_wanted, tf.shape(maxima)[1]))
        return start + rows, Neighbours(scores, tf.gather(numbers, order, batch_dims=1))

    nothing = Neighbours(tf.zeros([num_queries, 0]), tf.zeros([num_queries, 0], tf.int32))
    any_width = tf.TensorShape([None, None])
    _, best = tf.while_loop(
        lambda start, best: start < tf.shape(codes)[1],
        add_block,
        (tf.constant(0), nothing),
        shape_invariants=(tf.TensorShape([]), Neighbours(any_width, any_width)),
        # Blocks in parallel would each hold their scores.
        parallel_iterations=1,
    )
    return tf.sort(best.positions, axis=1)


def _group_maxima(scores: tf.Tensor) -> tf.Tensor:
    """The best of each group `[groups, queries]`, of scores `[rows, queries]`."""
    num_whole = tf.shape(scores)[0] // ROWS_PER_GROUP
    end = num_whole * ROWS_PER_GROUP
    grouped = tf.reshape(scores[:end], [num_whole, ROWS_PER_GROUP, tf.shape(scores)[1]])
    rest = scores[end:]
    num_short = tf.minimum(tf.shape(rest)[0], 1)
    short = tf.reduce_max(rest, axis=0, keepdims=True)[:num_short]
    return tf.concat([tf.reduce_max(grouped, axis=1), short], axis=0)


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
    """Scores `[rows, queries]` of a block: the entries of all queries lie together."""
    entries = tf.transpose(tables, [0, 2, 1])
    return lambda block: score_positions(entries, tf.unstack(tf.cast(block, tf.int32)))


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

    return score_block


def _score_fused(table: tf.Tensor) -> ScoreBlock:
    """Scores `[rows, 1]` of a block: several positions have one table of all their sums."""
    code_length, num_codewords = table.shape
    width = 1
    while width < code_length and num_codewords ** (width + 1) <= MAX_FUSED_ENTRIES:
        width += 1
    spans = [
        range(first, min(first + width, code_length)) for first in range(0, code_length, width)
    ]
    sums = []
    for span in spans:
        entries = table[span[0]]
        for position in span[1:]:
            entries = tf.reshape(entries[:, tf.newaxis] + table[position], [-1])
        sums.append(entries)

    def score_block(block: tf.Tensor) -> tf.Tensor:
        codes = tf.cast(block, tf.int32)
        scores = tf.zeros([])
        for entries, span in zip(sums, spans, strict=True):
            numbers = codes[span[0]]
            for position in span[1:]:
                numbers = numbers * num_codewords + codes[position]
            scores += tf.gather_nd(entries, numbers[:, tf.newaxis])
        return scores[:, tf.newaxis]

    return score_block
