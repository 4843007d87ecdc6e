"""From encoded bytes to pixels: the one decoder of training, indexing and the served graph."""

from __future__ import annotations

import numpy as np

from tfpqn._text import plain_sentence as plain_sentence
from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.orientation import choose, turn_upright
from tfpqn.datasets.lazy_tensorflow import tf

# Headers of files that may be transparent: a PNG with an alpha channel or a transparent colour, a
# WebP whose flags, or whose lossless header, say so.
_HAS_ALPHA = (
    r"\CPNG(?:\C{21}[\x04\x06]|\C*tRNS)\C*"
    r"|RIFF\C{8}(?:VP8X\C{4}[\x10-\x1f\x30-\x3f]|VP8L\C{8}[\x10-\x1f])\C*"
)
# Grey of what "pad" adds.
_BORDER = 128


def decode_image(data: tf.Tensor, image_shape: ImageShape, resize: str = "stretch") -> tf.Tensor:
    """Decode one image and bring it to the network's size.

    It is turned upright as its EXIF data say, and laid on white where it is transparent. Of an
    animation the first frame is taken. An image of another size is resized bilinearly with
    antialiasing; one of the right size passes unchanged.

    Args:
        data: Scalar string: JPEG, PNG, GIF, BMP or WebP bytes; see `make_plain` for others.
        image_shape: `(height, width, channels)`, channels 1 or 3.
        resize: What becomes of another aspect: `"stretch"` distorts, `"crop"` takes the middle,
            `"pad"` adds grey borders.

    Returns:
        uint8 tensor `[height, width, channels]`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes cannot be decoded.
    """
    height, width, channels = image_shape
    pixels = choose(
        tf.strings.regex_full_match(data, _HAS_ALPHA),
        lambda: _lay_on_white(_decode(data, 4), channels),
        lambda: _decode_grey(data) if channels == 1 else _decode(data, channels),
    )
    pixels.set_shape([None, None, channels])
    upright = turn_upright(pixels, data)
    return tf.ensure_shape(_fit_size(upright, height, width, resize), image_shape)


def decode_image_bytes(data: bytes, image_shape: ImageShape, resize: str = "stretch") -> np.ndarray:
    """What `decode_image` gives, outside of a graph.

    Raises:
        ValueError: The bytes cannot be decoded.
    """
    try:
        return decode_image(tf.constant(data), image_shape, resize).numpy()
    except tf.errors.OpError as error:
        raise ValueError(plain_sentence(error.message)) from error


def fit_frame(frame: tf.Tensor, image_shape: ImageShape, resize: str = "stretch") -> tf.Tensor:
    """Bring one decoded frame to the network's size, as `decode_image` does with an image.

    Args:
        frame: uint8 `[height, width, 3]`.
        image_shape: `(height, width, channels)` wanted, channels 1 or 3.
        resize: As of `decode_image`.

    Returns:
        uint8 tensor of `image_shape`.
    """
    height, width, channels = image_shape
    pixels = tf.convert_to_tensor(frame)
    pixels = _to_grey(pixels) if channels == 1 else pixels
    return tf.ensure_shape(_fit_size(pixels, height, width, resize), image_shape)


def _decode(data: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.io.decode_image(data, channels=channels, expand_animations=False)


def _decode_grey(data: tf.Tensor) -> tf.Tensor:
    """One channel. TensorFlow's decoders give it of PNG, and of JPEG but for CMYK."""
    gives_grey = choose(
        tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff"),
        lambda: tf.io.extract_jpeg_shape(data)[2] < 4,
        lambda: tf.equal(tf.strings.substr(data, 0, 3), b"\x89PN"),
    )
    return choose(gives_grey, lambda: _decode(data, 1), lambda: _to_grey(_decode(data, 3)))


def _lay_on_white(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """Colours and opacity, uint8 `[height, width, 4]`, as they show on white."""
    # 255 * 255 fits 16 bits; floats would take gigabytes where an image is large.
    colors, opacity = tf.cast(pixels[..., :3], tf.uint16), tf.cast(pixels[..., 3:], tf.uint16)
    colors = tf.cast((colors * opacity + 255 * (255 - opacity) + 127) // 255, tf.uint8)
    return _to_grey(colors) if channels == 1 else colors


def _to_grey(pixels: tf.Tensor) -> tf.Tensor:
    # Weights of ITU-R BT.601, as in JPEG and PNG; they sum to 1, so grey stays as it is.
    brightness = tf.reduce_sum(tf.cast(pixels, tf.float32) * [0.299, 0.587, 0.114], -1)
    return tf.cast(tf.round(brightness), tf.uint8)[..., tf.newaxis]


def _fit_size(pixels: tf.Tensor, height: int, width: int, resize: str) -> tf.Tensor:
    if resize == "pad":
        return _pad(pixels, height, width)
    if resize == "crop":
        pixels = _crop(pixels, height, width)
    size = pixels.shape[:2]
    if size.is_fully_defined():
        return pixels if size == (height, width) else _resize(pixels, height, width)
    right_size = tf.reduce_all(tf.equal(tf.shape(pixels)[:2], [height, width]))
    return tf.cond(right_size, lambda: pixels, lambda: _resize(pixels, height, width))


def _crop(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The middle of the pixels, without what is too much in one direction."""
    sides = tf.shape(pixels)[:2]
    scale = tf.reduce_min(tf.cast(sides, tf.float64) / [height, width])
    taken = _round_size(scale * [height, width])
    start = (sides - taken) // 2
    return tf.slice(pixels, tf.concat([start, [0]], 0), tf.concat([taken, [-1]], 0))


def _pad(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """All of the pixels, resized, with borders where they are too few in one direction.

    As if the borders were there before the resizing, but for the line where they begin. They are
    never made: around a line of a million pixels they would be a million lines.
    """
    sides = tf.shape(pixels)[:2]
    scale = tf.reduce_max(tf.cast(sides, tf.float64) / [height, width])
    wanted = _round_size(scale * [height, width])
    scales = [height, width] / tf.cast(wanted, tf.float64)
    before = tf.cast((wanted - sides) // 2, tf.float64) * scales
    # The operation gives zeros around the pixels.
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(pixels, tf.int16)[tf.newaxis] - _BORDER,
        size=[height, width],
        scale=tf.cast(scales, tf.float32),
        translation=tf.cast(before, tf.float32),
        kernel_type="triangle",
    )
    return _to_pixels(resized[0] + _BORDER)


def _round_size(size: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(tf.round(size), tf.int32), 1)


def _resize(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _to_pixels(tf.image.resize(pixels, [height, width], antialias=True))


def _to_pixels(floats: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(floats), 0.0, 255.0), tf.uint8)
