"""Checks of encoded images inside the graph, before they are decoded."""

from __future__ import annotations

import tensorflow as tf

from ..search.input_checks import require

# First bytes of what the decoder takes: JPEG, PNG, GIF, BMP, WebP.
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
# Files among them that it would misread: a BMP of other than 24 bits a pixel, an animated WebP.
_ANIMATED = "".join(rf"\x{flags:02x}" for flags in range(64) if flags & 2)
_BITMAP = r"BM\C{12}[\x28-\x7f]\C{13}\x18\x00\C*"
_ANIMATION = rf"RIFF\C{{8}}VP8X\C{{4}}[{_ANIMATED}]\C*"
# Blocks of a GIF that are passed: 4 MB of a first frame as it is usually written, in a second.
_MAX_BLOCKS = 2**14


def check_images(images: tf.Tensor) -> tf.Tensor:
    """Encoded images `[batch]`, refused where they do not begin like one that can be decoded."""
    is_image = _begins_like_an_image(images)
    return require(
        images,
        tf.reduce_all(is_image),
        "images: expected the bytes of a JPEG, PNG, GIF, still WebP or 24-bit BMP file. "
        "Received other bytes; rows concerned:",
        tf.where(~is_image)[:, 0],
    )


def check_frames(frames: tf.Tensor) -> tf.Tensor:
    """Encoded frames `[batch, num_frames]`; an empty string is no frame, but no clip is without.

    Refused where a clip has no frame, or a frame does not begin like an image.
    """
    is_frame = tf.not_equal(frames, "")
    is_wrong = is_frame & ~_begins_like_an_image(frames)
    is_empty = ~tf.reduce_any(is_frame, axis=1)
    frames = require(
        frames,
        ~tf.reduce_any(is_wrong),
        "frames: expected the bytes of JPEG, PNG, GIF, still WebP or 24-bit BMP files, or "
        "empty strings. Received other bytes; rows concerned:",
        tf.where(tf.reduce_any(is_wrong, axis=1))[:, 0],
    )
    return require(
        frames,
        ~tf.reduce_any(is_empty),
        "frames: expected at least one frame in each clip. Received none; rows concerned:",
        tf.where(is_empty)[:, 0],
    )


def check_whole_clips(frames: tf.Tensor, num_frames: int | None) -> tf.Tensor:
    """Frames `[batch, num_frames]` for a backbone of clips: as many as it takes, none left out."""
    frames = require(
        frames,
        tf.reduce_all(tf.not_equal(frames, "")),
        "frames: expected clips of one length. Received empty strings, which are no frames",
    )
    if num_frames is None:
        return frames
    received = tf.shape(frames)[1]
    message = f"frames: expected {num_frames} frames in each clip. Received:"
    return require(frames, tf.equal(received, num_frames), message, received)


def _begins_like_an_image(data: tf.Tensor) -> tf.Tensor:
    known = [tf.equal(tf.strings.substr(data, 0, len(start)), start) for start in IMAGE_STARTS]
    head = tf.strings.substr(data, 0, 32)
    is_other_bitmap = known[3] & ~tf.strings.regex_full_match(head, _BITMAP)
    is_animated = tf.strings.regex_full_match(head, _ANIMATION)
    return tf.reduce_any(known, axis=0) & ~is_other_bitmap & ~is_animated


def check_pixels(data: tf.Tensor, max_pixels: int, name: str) -> tf.Tensor:
    """One encoded image, refused if its header names too many pixels: before it is decoded.

    Of a GIF no more is returned than its first frame, or the decoder would unpack all of them.
    """
    data, num_pixels = tf.cond(
        tf.equal(tf.strings.substr(data, 0, 4), b"GIF8"),
        lambda: _take_first_frame(data),
        lambda: (data, _read_num_pixels(data)),
    )
    message = f"{name}: expected at most {max_pixels} pixels. Received an image of:"
    return require(data, num_pixels <= max_pixels, message, num_pixels)


def _read_num_pixels(data: tf.Tensor) -> tf.Tensor:
    """Width times height as the header of one image file has them, float64 against overflow."""
    padded = tf.strings.join([tf.strings.substr(data, 0, 32), b"\0" * 32])
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, 32), tf.uint8), tf.float64)

    def number(place: int, size: int, big_endian: bool = False) -> tf.Tensor:
        weights = [256.0**power for power in range(size)]
        digits = header[place : place + size]
        return tf.reduce_sum(digits * (weights[::-1] if big_endian else weights))

    def begins(*starts: bytes) -> tf.Tensor:
        return tf.reduce_any([tf.equal(tf.strings.substr(data, 0, len(s)), s) for s in starts])

    def jpeg() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(data, output_type=tf.int32)
        return tf.reduce_prod(tf.cast(shape[:2], tf.float64))

    def bmp() -> tf.Tensor:
        height = number(22, 4)
        # Negative where the rows run top down.
        return number(18, 4) * tf.minimum(height, 2.0**32 - height)

    # WebP: 14 bits a side in a lossy or lossless file, 24 in an extended one.
    def lossless() -> tf.Tensor:
        bits = number(21, 4)
        width = tf.math.floormod(bits, 2.0**14) + 1.0
        return width * (tf.math.floormod(tf.math.floor(bits / 2.0**14), 2.0**14) + 1.0)

    def lossy() -> tf.Tensor:
        sides = [tf.math.floormod(number(place, 2), 2.0**14) for place in (26, 28)]
        return sides[0] * sides[1]

    kind = tf.strings.substr(padded, 12, 4)
    return tf.case(
        [
            (begins(b"\xff\xd8\xff"), jpeg),
            (begins(b"\x89PNG"), lambda: number(16, 4, True) * number(20, 4, True)),
            (begins(b"BM"), bmp),
            (tf.equal(kind, b"VP8X"), lambda: (number(24, 3) + 1.0) * (number(27, 3) + 1.0)),
            (tf.equal(kind, b"VP8L"), lossless),
        ],
        default=lossy,
    )


def _take_first_frame(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A GIF that ends after its first frame, and the pixels of the canvas that this frame needs."""
    padded, length = tf.strings.join([data, b"\0" * 16]), tf.strings.length(data)

    def read(place: tf.Tensor, size: int) -> tf.Tensor:
        return tf.cast(tf.io.decode_raw(tf.strings.substr(padded, place, size), tf.uint8), tf.int32)

    def pass_block(
        place: tf.Tensor, frame: tf.Tensor, in_data: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Data come in parts, each behind its size, up to an empty one."""
        head = read(place, 10)
        is_frame = ~in_data & tf.equal(head[0], 0x2C)
        is_extension = ~in_data & tf.equal(head[0], 0x21)
        size = tf.where(is_frame, 11 + _color_table(head[9]), tf.where(is_extension, 2, 0))
        frame = tf.where(is_frame, place, tf.where(in_data | is_extension, frame, -1))
        goes_on = tf.where(in_data, head[0] > 0, is_frame | is_extension)
        return place + tf.where(in_data, head[0] + 1, size), frame, goes_on

    end, frame, _ = tf.while_loop(
        lambda place, frame, in_data: (in_data | tf.equal(frame, 0)) & (place < length),
        pass_block,
        (13 + _color_table(read(10, 1)[0]), tf.constant(0), tf.constant(False)),
        maximum_iterations=_MAX_BLOCKS,
    )
    canvas, place = read(6, 4), read(tf.maximum(frame, 0) + 1, 8)
    weights = tf.constant([1, 256])
    sides = tf.reduce_sum(tf.reshape(canvas, [2, 2]) * weights, axis=1)
    reach = tf.reduce_sum(tf.reshape(place, [2, 2, 2]) * weights, axis=[0, 2])
    sides = tf.cast(tf.maximum(sides, tf.where(frame > 0, reach, 0)), tf.float64)
    return tf.strings.substr(data, 0, end) + b";", tf.reduce_prod(sides)


def _color_table(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the table of colours that the flags of a GIF announce."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)
