"""Checks inside the graph: bad input becomes an INVALID_ARGUMENT that names it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def require(tensor: tf.Tensor, condition: tf.Tensor, *message: Any) -> tf.Tensor:
    """The tensor, where the condition holds; else an error of the message's texts and values."""
    data = [tf.convert_to_tensor(part) for part in message]
    # The raw op: `tf.debugging.Assert` wraps it into a conditional, which takes ten times as long.
    check = tf.raw_ops.Assert(condition=condition, data=data)
    with tf.control_dependencies([check]):
        return tf.identity(tensor)


def check_embeddings(embeddings: tf.Tensor) -> tf.Tensor:
    """Embeddings `[batch, embedding_dim]`, refused if of another width, NaN or infinite."""
    given = _check_columns(embeddings, "embeddings")
    is_finite = tf.math.is_finite(given)
    given = require(
        given,
        tf.reduce_all(is_finite),
        "embeddings: expected finite values. Received NaN or infinity; rows and columns concerned:",
        tf.where(~is_finite),
    )
    given.set_shape([None, embeddings.shape[1]])
    return given


def check_codes(codes: tf.Tensor, num_codewords: int) -> tf.Tensor:
    """Codes `[batch, code_length]`, refused if of another width or out of range."""
    given = _check_columns(codes, "codes")
    given = require(
        given,
        tf.reduce_all((given >= 0) & (given < num_codewords)),
        f"codes: expected values in 0 .. {num_codewords - 1}. Received from, to:",
        tf.reduce_min(given),
        tf.reduce_max(given),
    )
    given.set_shape([None, codes.shape[1]])
    return given


def _check_columns(values: tf.Tensor, name: str) -> tf.Tensor:
    """Rows of any width, refused unless of the declared one."""
    width = values.shape[1]
    # The placeholder hides the declared width, or the check would be optimised away with it.
    given = tf.raw_ops.PlaceholderWithDefault(input=values, shape=[None, None])
    _, received = tf.unstack(tf.shape(given))
    message = f"{name}: expected width {width}. Received width:"
    return require(given, tf.equal(received, width), message, received)


def check_count(count: tf.Tensor, largest: int, name: str) -> tf.Tensor:
    """A wanted number, refused if it is not in `1 .. largest`."""
    message = f"{name}: expected a number in 1 .. {largest}. Received:"
    return require(count, (count >= 1) & (count <= largest), message, count)


def check_width(values: tf.Tensor, name: str, largest: int) -> tf.Tensor:
    """Lists `[batch, n]`, refused if they are too long."""
    width = tf.shape(values)[1]
    message = f"{name}: expected at most {largest} for each query. Received:"
    return require(values, width <= largest, message, width)


def check_batches(**tensors: tf.Tensor) -> list[tf.Tensor]:
    """Inputs that must have as many rows as the first of them."""
    (first, expected), *others = tensors.items()
    size = tf.shape(expected)[0]
    checked = [expected]
    for name, tensor in others:
        message = f"{name}: expected as many rows as {first} has,"
        is_same = tf.equal(tf.shape(tensor)[0], size)
        checked.append(require(tensor, is_same, message, size, "Received:", tf.shape(tensor)))
    return checked


def check_known(positions: tf.Tensor, name: str) -> tf.Tensor:
    """Positions of items `[batch]`, refused where they are negative: no such item."""
    is_known = positions >= 0
    return require(
        positions,
        tf.reduce_all(is_known),
        f"{name}: expected ids of items of the collection. Received unknown ids; rows concerned:",
        tf.where(~is_known)[:, 0],
    )
