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


def check_pixels(data: tf.Tensor, max_pixels: int, name: str) -> tf.Tensor:
    """One encoded image, refused if its header names too many pixels: before it is decoded."""
    num_pixels = _read_num_pixels(data)
    not_too_large = tf.debugging.Assert(
        num_pixels <= max_pixels,
        [f"{name}: expected at most {max_pixels} pixels. Received an image of:", num_pixels],
    )
    with tf.control_dependencies([not_too_large]):
        return tf.identity(data)


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
            (begins(b"GIF8"), lambda: number(6, 2) * number(8, 2)),
            (begins(b"BM"), bmp),
            (tf.equal(kind, b"VP8X"), lambda: (number(24, 3) + 1.0) * (number(27, 3) + 1.0)),
            (tf.equal(kind, b"VP8L"), lossless),
        ],
        default=lossy,
    )


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
