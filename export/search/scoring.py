"""Scores of codes: sums of table entries, for blocks of codes that lie position by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import tensorflow as tf

# So many rows TensorFlow's sum of segments adds from the first to the last.
MAX_ORDERED_ROWS = 9
NUM_BYTES = 256
ROWS_PER_GROUP = 32


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """Codes `[..., code_length]` in words `[..., num_words]` as wide as fit.

    The ops that gather them copy number by number, whatever their width.
    """
    num_bytes = codes.shape[-1] * codes.itemsize
    width = next(width for width in (8, 4, 2, 1) if num_bytes % width == 0)
    little_endian = np.ascontiguousarray(codes, codes.dtype.newbyteorder("<"))
    return little_endian.view("<i8" if width == 8 else f"<u{width}")


def unpack_codes(words: tf.Tensor, code_dtype: tf.DType) -> tf.Tensor:
    """Codes `[rows, ..., code_length]` of words `[rows, ..., num_words]`."""
    if words.dtype.size == code_dtype.size:
        return words
    *inner, num_words = words.shape[1:]
    code_length = num_words * words.dtype.size // code_dtype.size
    return tf.reshape(tf.bitcast(words, code_dtype), [-1, *inner, code_length])


def pack_planes(codes: np.ndarray) -> np.ndarray:
    """Codes `[num_items, code_length]` as `[num_planes, num_items]`, in the order of a search.

    A plane holds one position of all items, or two: bytes of an even number of positions are the
    halves of uint16, the first the low one. So one query looks up two positions at once. Items of
    zeros follow until the last group is full.
    """
    if codes.dtype == np.uint8 and codes.shape[1] % 2 == 0:
        codes = np.ascontiguousarray(codes).view("<u2").astype(np.uint16)
    return np.ascontiguousarray(np.pad(codes.T, [(0, 0), (0, -len(codes) % ROWS_PER_GROUP)]))


def unpack_planes(planes: tf.Tensor, code_length: int) -> list[tf.Tensor]:
    """int32 codes `[rows]` of each position, of planes `[num_planes, rows]` or with more axes."""
    numbers = tf.cast(planes, tf.int32)
    if planes.shape[0] == code_length:
        return tf.unstack(numbers)
    lows = tf.unstack(tf.bitwise.bitwise_and(numbers, NUM_BYTES - 1))
    highs = tf.unstack(tf.bitwise.right_shift(numbers, 8))
    return [own for pair in zip(lows, highs, strict=True) for own in pair]


def score_positions(tables: tf.Tensor, codes: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sums `[rows, ...]` of the entries of `[code_length, num_codewords, ...]` that codes name.

    The codes are int32 `[rows, 1]` of each position. The sums go in the order of the positions.
    """
    pairs = zip(tf.unstack(negate_rest(tables)), codes, strict=True)
    return add_in_order([tf.gather_nd(table, own) for table, own in pairs])


def negate_rest(values: tf.Tensor) -> tf.Tensor:
    """The values with all signs changed but those of the first row, see `add_in_order`."""
    signs = np.where(np.arange(values.shape[0]), np.float32(-1), np.float32(1))
    return values * signs.reshape([-1] + [1] * (len(values.shape) - 1))


def add_in_order(entries: Sequence[tf.Tensor]) -> tf.Tensor:
    """The first, and from the second to the last what each is the negative of.

    All scores are summed so. TensorFlow's graph optimizers sort what is added by the names of ops,
    which rounds otherwise in each graph; they leave differences as they are.
    """
    return reduce(tf.subtract, entries)


def score_one(tables: tf.Tensor, planes: tf.Tensor) -> tf.Tensor:
    """Scores `[rows]` by the tables `[code_length, num_codewords]` of one query, in order.

    One look-up of all entries takes fewer ops than one for each position.
    """
    code_length, num_codewords = tables.shape
    num_planes = planes.shape[0]
    codes = tf.bitcast(planes, tf.uint8) if num_planes < code_length else planes[:, :, tf.newaxis]
    firsts = np.arange(code_length, dtype=np.int32).reshape(num_planes, -1) * num_codewords
    signed = tf.reshape(negate_rest(tables), [-1])
    halves = []
    for place, own in enumerate(tf.unstack(tf.cast(codes, tf.int32), axis=2)):
        numbers = own + firsts[:, place : place + 1]
        halves.append(tf.unstack(tf.gather_nd(signed, tf.expand_dims(numbers, 2))))
    return add_in_order([own for pair in zip(*halves, strict=True) for own in pair])


def score_pairs(
    tables: tf.Tensor, planes: Sequence[tf.Tensor], start: tf.Tensor | None = None
) -> tf.Tensor:
    """Scores `[rows]` of one query, by tables of all sums of two positions, so in another order.

    Args:
        tables: float32 `[code_length, num_codewords]`.
        planes: Planes uint16 `[rows]` that hold pairs.
        start: What the sums begin with, if given.
    """
    lows = tf.pad(tables[0::2], [[0, 0], [0, NUM_BYTES - tables.shape[1]]])
    sums = tf.reshape(tables[1::2, :, tf.newaxis] + lows[:, tf.newaxis], [lows.shape[0], -1])
    entries = [] if start is None else [start]
    for table, plane in zip(tf.unstack(sums), planes, strict=True):
        entries.append(tf.gather_nd(table, tf.expand_dims(tf.cast(plane, tf.int32), 1)))
    return tf.add_n(entries)


def score_by_rows(
    tables: tf.Tensor, most_rows: tf.Tensor
) -> Callable[[Sequence[tf.Tensor]], tf.Tensor]:
    """Scores of many queries, without temporary tensors of all entries; each block on one core.

    Args:
        tables: float32 `[code_length, queries, num_codewords]`.
        most_rows: No block has more.

    Returns:
        What gives the scores `[rows, queries]` of planes `[rows]`. Of at most `MAX_ORDERED_ROWS`
        positions they are summed in order.
    """
    code_length, _, num_codewords = tables.shape
    entries = tf.transpose(tables, [0, 2, 1])
    entries = tf.reshape(entries, [code_length * num_codewords, -1])
    firsts = np.arange(code_length, dtype=np.int32) * num_codewords
    rows = tf.repeat(tf.range(most_rows), code_length)

    def score_block(planes: Sequence[tf.Tensor]) -> tf.Tensor:
        codes = tf.transpose(tf.stack(planes))
        if len(planes) < code_length:
            codes = tf.reshape(tf.bitcast(codes, tf.uint8), [-1, code_length])
        numbers = tf.reshape(tf.cast(codes, tf.int32) + firsts, [-1])
        return tf.raw_ops.SparseSegmentSum(
            data=entries, indices=numbers, segment_ids=rows[: tf.size(numbers)]
        )

    return score_block
