"""From encoded bytes to pixels: the one decoder of training, indexing and the served graph."""

from __future__ import annotations

import re

import tensorflow as tf

ImageShape = tuple[int, int, int]


def decode_image(data: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
    """Decode one image and bring it to the network's size.

    Of an animation the first frame is taken. An image of another size is resized bilinearly with
    antialiasing, whatever its aspect; one of the right size passes unchanged.

    Args:
        data: Scalar string: JPEG, PNG, GIF or BMP bytes.
        image_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        uint8 tensor `[height, width, channels]`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes cannot be decoded.
    """
    height, width, channels = image_shape
    pixels = tf.io.decode_image(data, channels=channels, expand_animations=False)
    pixels.set_shape([None, None, channels])
    right_size = tf.reduce_all(tf.equal(tf.shape(pixels)[:2], [height, width]))
    pixels = tf.cond(right_size, lambda: pixels, lambda: _resize(pixels, height, width))
    return tf.ensure_shape(pixels, image_shape)


def plain_sentence(message: str) -> str:
    """TensorFlow's message of an error without its marks of nodes and ops."""
    marks = r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]( name:)?|assertion failed:"
    return " ".join(re.sub(marks, "", message).split())


def _resize(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    resized = tf.image.resize(pixels, [height, width], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
