"""Exhaustive asymmetric search over codes in a TensorFlow graph, with standard ops alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# Scores and positions of places that no item fills; finite, because JSON knows no infinity.
FLOOR_SCORE = tf.float32.min
NO_POSITION = -1

# Rows scored at once: their scores stay in the processor's cache, for one query and for many.
ROWS_PER_BLOCK = 16_384


class Neighbours(NamedTuple):
    """The best items of each query, best first; equal scores in ascending position.

    Attributes:
        scores: float32 `[queries, top_k]`; `FLOOR_SCORE` where there are fewer items.
        positions: int32 `[queries, top_k]`; `NO_POSITION` where there are fewer items.
    """

    scores: tf.Tensor
    positions: tf.Tensor


def search_codes(
    tables: tf.Tensor,
    codes: Any,
    top_k: int | tf.Tensor,
    rows_per_block: int = ROWS_PER_BLOCK,
    admits: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
) -> Neighbours:
    """Find the items with the largest sums of table entries.

    Codes are scanned block by block while the best so far are kept, so memory does not grow with
    the collection: it takes `queries * rows_per_block` scores at a time.

    Args:
        tables: float32 `[queries, code_length, num_codewords]`.
        codes: Integers `[code_length, num_items]`, a tensor or variable: position by position, so
            that each block is read in order.
        top_k: Number of items to find, at least 1; a scalar tensor if it is not known yet.
        rows_per_block: Items scored at once.
        admits: Called with the first row of a block and the row after its last, says which items
            may be found: bool `[queries, rows]`. All if None.

    Returns:
        The best items. Scores are summed in the order of the code positions, like
        `tfpqn.ops.adc_scores`.
    """
    num_items = tf.shape(codes)[1]
    num_queries = tf.shape(tables)[0]
    # [code_length, num_codewords, queries]: one entry for all queries lies together.
    entries = tf.transpose(tables, [1, 2, 0])

    def scan(start: tf.Tensor, best: Neighbours) -> tuple[tf.Tensor, Neighbours]:
        block = codes[:, start : start + rows_per_block]
        block_scores = _score_block(entries, block)
        num_rows = tf.shape(block)[1]
        if admits is not None:
            block_scores = tf.where(admits(start, start + num_rows), block_scores, FLOOR_SCORE)
        scores, rows = tf.math.top_k(block_scores, tf.minimum(top_k, num_rows))
        # What is found first stands first: `top_k` prefers the earlier of equals.
        merged_scores = tf.concat([best.scores, scores], axis=1)
        merged_positions = tf.concat([best.positions, rows + start], axis=1)
        scores, order = tf.math.top_k(merged_scores, top_k)
        positions = tf.gather(merged_positions, order, batch_dims=1)
        return start + rows_per_block, Neighbours(scores, positions)

    nothing = Neighbours(
        tf.fill([num_queries, top_k], FLOOR_SCORE), tf.fill([num_queries, top_k], NO_POSITION)
    )
    width = None if tf.is_tensor(top_k) else top_k
    _, best = tf.while_loop(
        lambda start, best: start < num_items,
        scan,
        (tf.constant(0), nothing),
        shape_invariants=(
            tf.TensorShape([]),
            Neighbours(tf.TensorShape([None, width]), tf.TensorShape([None, width])),
        ),
        # Blocks in parallel would each hold their scores.
        parallel_iterations=1,
    )
    if admits is None:
        return best
    # Items that are not admitted fill up where too few are.
    is_item = best.scores > FLOOR_SCORE
    return best._replace(positions=tf.where(is_item, best.positions, NO_POSITION))


def _score_block(entries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Scores `[queries, rows]` of codes `[code_length, rows]`."""
    scores = tf.gather(entries[0], tf.cast(block[0], tf.int32))
    for position in range(1, entries.shape[0]):
        scores += tf.gather(entries[position], tf.cast(block[position], tf.int32))
    return tf.transpose(scores)
