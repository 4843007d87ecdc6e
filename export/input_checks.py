"""Checks inside the graph: bad input becomes an INVALID_ARGUMENT that names it."""

from __future__ import annotations

import tensorflow as tf

# First bytes of what the decoder takes: JPEG, PNG, GIF, BMP, WebP.
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def check_images(images: tf.Tensor) -> tf.Tensor:
    """Encoded images `[batch]`, refused where they do not begin like one."""
    is_image = _begins_like_an_image(images)
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


def check_frames(frames: tf.Tensor) -> tf.Tensor:
    """Encoded frames `[batch, num_frames]`; an empty string is no frame, but no clip is without.

    Refused where a clip has no frame, or a frame does not begin like an image.
    """
    is_frame = tf.not_equal(frames, "")
    is_wrong = is_frame & ~_begins_like_an_image(frames)
    is_empty = ~tf.reduce_any(is_frame, axis=1)
    all_frames = tf.debugging.Assert(
        ~tf.reduce_any(is_wrong),
        [
            "frames: expected the bytes of JPEG, PNG, GIF, BMP or WebP files, or empty strings. "
            "Received other bytes; rows concerned:",
            tf.where(tf.reduce_any(is_wrong, axis=1))[:, 0],
        ],
    )
    none_empty = tf.debugging.Assert(
        ~tf.reduce_any(is_empty),
        [
            "frames: expected at least one frame in each clip. Received none; rows concerned:",
            tf.where(is_empty)[:, 0],
        ],
    )
    with tf.control_dependencies([all_frames, none_empty]):
        return tf.identity(frames)


def check_whole_clips(frames: tf.Tensor, num_frames: int | None) -> tf.Tensor:
    """Frames `[batch, num_frames]` for a backbone of clips: as many as it takes, none left out."""
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.not_equal(frames, "")),
            ["frames: expected clips of one length. Received empty strings, which are no frames"],
        )
    ]
    if num_frames is not None:
        checks.append(
            tf.debugging.Assert(
                tf.equal(tf.shape(frames)[1], num_frames),
                [
                    f"frames: expected {num_frames} frames in each clip. Received:",
                    tf.shape(frames)[1],
                ],
            )
        )
    with tf.control_dependencies(checks):
        return tf.identity(frames)


def _begins_like_an_image(data: tf.Tensor) -> tf.Tensor:
    known = [tf.equal(tf.strings.substr(data, 0, len(start)), start) for start in IMAGE_STARTS]
    return tf.reduce_any(known, axis=0)


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
