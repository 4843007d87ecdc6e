"""How an image file says that it lies on its side, and turning it upright, in the graph."""

from __future__ import annotations

from collections.abc import Callable

from tfpqn.datasets.lazy_tensorflow import tf

# EXIF data begin with a TIFF header, behind the marks of a JPEG, a PNG or a WebP.
_EXIF = r"\C*?(?:Exif\x00\x00|eXIf|EXIF\C{4})(II\*\x00|MM\x00\*)"
_ORIENTATION = 0x0112
# Bytes of EXIF data that are looked at: those of one segment of a JPEG.
_LENGTH = 2**16


def turn_upright(pixels: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Turn and mirror an image as the EXIF data of its file say.

    Args:
        pixels: `[height, width, channels]`, decoded from the file.
        data: Scalar string: the bytes of the file.

    Returns:
        The pixels as a viewer shows them.
    """
    return choose(
        tf.strings.regex_full_match(data, rf"{_EXIF}\C*"),
        lambda: _turn(pixels, _read_orientation(data)),
        lambda: pixels,
    )


def choose(
    condition: tf.Tensor, if_true: Callable[[], tf.Tensor], if_false: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """`tf.cond`, or a branch of Python where the condition is known: that is faster there."""
    known = tf.get_static_value(condition)
    if known is None:
        return tf.cond(condition, if_true, if_false)
    return if_true() if known else if_false()


def _turn(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    lies = orientation > 4
    stands = choose(lies, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    is_mirrored = [
        tf.reduce_any(tf.equal(orientation, values)) for values in ([3, 4, 7, 8], [2, 3, 6, 7])
    ]
    return tf.reverse(stands, tf.boolean_mask([0, 1], is_mirrored))


def _read_orientation(data: tf.Tensor) -> tf.Tensor:
    """A number in 1 .. 8 from EXIF data that are there; 1, upright, where they do not name it."""
    exif = tf.strings.regex_replace(data, f"^{_EXIF}", r"\1", replace_global=False)
    exif = tf.strings.substr(tf.strings.join([exif, b"\0" * _LENGTH]), 0, _LENGTH)
    content = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int32)
    is_little_endian = tf.equal(content[0], ord("I"))

    def number(high: tf.Tensor, low: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little_endian, high + 256 * low, 256 * high + low)

    # A directory of entries of 12 bytes: tag, type, how many, value. Its place has four bytes,
    # the two of higher value empty in so little data.
    place = tf.where(is_little_endian, 4, 6)
    place = tf.minimum(number(content[place], content[place + 1]), _LENGTH - 2)
    num_entries = number(content[place], content[place + 1])
    num_entries = tf.minimum(num_entries, (_LENGTH - 2 - place) // 12)
    entries = tf.reshape(content[place + 2 : place + 2 + 12 * num_entries], [-1, 12])
    tags, values = (number(entries[:, i], entries[:, i + 1]) for i in (0, 8))
    found = tf.boolean_mask(values, tf.equal(tags, _ORIENTATION))
    orientation = tf.concat([found, [1]], axis=0)[0]
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)
