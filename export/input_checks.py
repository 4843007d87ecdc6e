"""Checks inside the graph: bad input becomes an INVALID_ARGUMENT that names it."""

from __future__ import annotations

import tensorflow as tf

# First bytes of what the decoder takes: JPEG, PNG, GIF, BMP, WebP.
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def check_images(images: tf.Tensor) -> tf.Tensor:
    """Encoded images `[batch]`, refused where they do not begin like one."""
    known = [tf.equal(tf.strings.substr(images, 0, len(start)), start) for start in IMAGE_STARTS]
    is_image = tf.reduce_any(known, axis=0)
    all_images = tf.debugging.Assert(
        tf.reduce_all(is_image),
        [
            "images: expected the bytes of a JPEG, PNG, GIF, BMP or WebP file. "
            "Received other bytes; rows concerned:",
            tf.where(~is_image)[:, 0],
        ],
    )
    with tf.control_dependencies([all_images]):
        return tf.identity(images)


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
