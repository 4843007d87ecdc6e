"""What a search finds, and the one order in which it comes: by score, then by position.

Scores and positions become one integer each, so that one `top_k` ranks by both. Where candidates do
not come in the order of their positions, `top_k` over scores alone would put equal scores in the
order of the candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Scores and positions where there are fewer items than wanted; finite, because JSON knows no
# infinity.
FLOOR_SCORE = tf.float32.min
NO_POSITION = -1

_LARGEST_POSITION = 2**31 - 1


class Neighbours(NamedTuple):
    """The best items of each query, best first; equal scores in ascending position.

    Attributes:
        scores: float32 `[queries, top_k]`; `FLOOR_SCORE` where there are fewer items.
        positions: int32 `[queries, top_k]`; `NO_POSITION` where there are fewer items.
    """

    scores: tf.Tensor
    positions: tf.Tensor


def make_keys(scores: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Keys int64 of float32 scores and int32 positions of the same shape; larger is better.

    A better score makes a larger key, and of equal scores the smaller position.
    """
    ordered = _order_bits(tf.bitcast(scores, tf.int32))
    # Not `tf.stack` of two halves, which takes ten times as long.
    high = tf.cast(ordered, tf.int64) * 2**32
    return high + (_LARGEST_POSITION - tf.cast(positions, tf.int64))


def read_keys(keys: tf.Tensor) -> Neighbours:
    """The scores and positions of keys."""
    # Processors lay the low half out first.
    low, ordered = tf.unstack(tf.bitcast(keys, tf.int32), axis=-1)
    scores = tf.bitcast(_order_bits(ordered), tf.float32)
    return Neighbours(scores, tf.bitwise.bitwise_xor(low, _LARGEST_POSITION))


def _order_bits(bits: tf.Tensor) -> tf.Tensor:
    """Bits of float32 as integers of the same order, and back; both zeros are 0."""
    # Negative floats have the first bit, and others that grow with their magnitude.
    return tf.where(bits < 0, tf.int32.min - bits, bits)


def best_keys(keys: tf.Tensor, top_k: int | tf.Tensor) -> tf.Tensor:
    """The largest keys `[queries, top_k]` of at least as many, best first."""
    # All of them are sorted: that takes `top_k` less time than to choose.
    best = tf.math.top_k(keys, tf.shape(keys)[1]).values[:, :top_k]
    best.set_shape([None, None if tf.is_tensor(top_k) else top_k])
    return best


def missing_keys(shape: list[int | tf.Tensor]) -> tf.Tensor:
    """Keys where no item is."""
    return tf.fill(shape, make_keys(tf.constant(FLOOR_SCORE), tf.constant(NO_POSITION)))
