"""Checks inside the graph: bad input becomes an INVALID_ARGUMENT that names it."""

from __future__ import annotations

import tensorflow as tf


def check_embeddings(embeddings: tf.Tensor) -> tf.Tensor:
    """Embeddings `[batch, embedding_dim]`, refused if of another width, NaN or infinite."""
    width = embeddings.shape[1]
    # The placeholder hides the declared width, or the check would be optimised away with it.
    given = tf.raw_ops.PlaceholderWithDefault(input=embeddings, shape=[None, None])
    has_width = tf.debugging.Assert(
        tf.equal(tf.shape(given)[1], width),
        [f"embeddings: expected width {width}. Received width:", tf.shape(given)[1]],
    )
    is_finite = tf.reduce_all(tf.math.is_finite(given), axis=1)
    all_finite = tf.debugging.Assert(
        tf.reduce_all(is_finite),
        [
            "embeddings: expected finite values. Received NaN or infinity; rows concerned:",
            tf.where(~is_finite)[:, 0],
        ],
    )
    with tf.control_dependencies([has_width, all_finite]):
        return tf.ensure_shape(tf.identity(given), [None, width])


def check_count(count: tf.Tensor, largest: int, name: str) -> tf.Tensor:
    """A wanted number, refused if it is not in `1 .. largest`."""
    in_range = tf.debugging.Assert(
        (count >= 1) & (count <= largest),
        [f"{name}: expected a number in 1 .. {largest}. Received:", count],
    )
    with tf.control_dependencies([in_range]):
        return tf.identity(count)


def check_width(values: tf.Tensor, name: str, largest: int) -> tf.Tensor:
    """Lists `[batch, n]`, refused if they are too long."""
    width = tf.shape(values)[1]
    fits = tf.debugging.Assert(
        width <= largest, [f"{name}: expected at most {largest} for each query. Received:", width]
    )
    with tf.control_dependencies([fits]):
        return tf.identity(values)


def check_batches(**tensors: tf.Tensor) -> list[tf.Tensor]:
    """Inputs that must have as many rows as the first of them."""
    (first, expected), *others = tensors.items()
    size = tf.shape(expected)[0]
    checks = [
        tf.debugging.Assert(
            tf.equal(tf.shape(tensor)[0], size),
            [f"{name}: expected as many rows as {first} has,", size, "Received:", tf.shape(tensor)],
        )
        for name, tensor in others
    ]
    with tf.control_dependencies(checks):
        return [tf.identity(tensor) for tensor in tensors.values()]


def check_known(positions: tf.Tensor, name: str) -> tf.Tensor:
    """Positions of items `[batch]`, refused where they are negative: no such item."""
    is_known = positions >= 0
    all_known = tf.debugging.Assert(
        tf.reduce_all(is_known),
        [
            f"{name}: expected ids of items of the collection. "
            "Received unknown ids; rows concerned:",
            tf.where(~is_known)[:, 0],
        ],
    )
    with tf.control_dependencies([all_known]):
        return tf.identity(positions)


def check_codes(codes: tf.Tensor, num_codewords: int) -> tf.Tensor:
    """Codes `[batch, code_length]`, refused if of another width or out of range."""
    width = codes.shape[1]
    given = tf.raw_ops.PlaceholderWithDefault(input=codes, shape=[None, None])
    has_width = tf.debugging.Assert(
        tf.equal(tf.shape(given)[1], width),
        [f"codes: expected width {width}. Received width:", tf.shape(given)[1]],
    )
    in_range = tf.debugging.Assert(
        tf.reduce_all((given >= 0) & (given < num_codewords)),
        [
            f"codes: expected values in 0 .. {num_codewords - 1}. Received from, to:",
            tf.reduce_min(given),
            tf.reduce_max(given),
        ],
    )
    with tf.control_dependencies([has_width, in_range]):
        return tf.ensure_shape(tf.identity(given), [None, width])
