"""Sizes of images are known, and refused, before an image is decoded."""

import io
import struct
import zlib

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.datasets.pictures import PICTURES
from tfpqn.datasets import decode_image, make_plain
from tfpqn.export.model.image_checks import check_images, check_pixels

KINDS = "JPEG, PNG, GIF, still WebP or 24-bit BMP"
FORMATS = {
    "JPEG": ("RGB", {}),
    "PNG": ("RGB", {}),
    "GIF": ("P", {}),
    "BMP": ("RGB", {}),
    "lossy WebP": ("RGB", {}),
    "lossless WebP": ("RGB", {"lossless": True}),
    "extended WebP": ("RGBA", {"lossless": False}),
}


def make_image(kind, width, height):
    mode, options = FORMATS[kind]
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind.split()[-1], **options)
    return buffer.getvalue()


def top_down_bitmap(width, height):
    data = bytearray(make_image("BMP", width, height))
    data[22:26] = struct.pack("<i", -height)
    return bytes(data)


def accepts_in_graph(data, max_pixels):
    try:
        check_pixels(tf.constant(data), max_pixels, "images")
    except tf.errors.InvalidArgumentError as error:
        assert f"images: expected at most {max_pixels} pixels" in error.message
        return False
    return True


def accepts(data, max_pixels):
    try:
        make_plain(data, max_pixels)
    except ValueError as error:
        assert f"at most {max_pixels} pixels" in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None, max_examples=6)
@given(st.integers(1, 300), st.integers(1, 200))
def test_an_image_is_accepted_up_to_its_number_of_pixels(kind, width, height):
    data = make_image(kind, width, height)
    for check in (accepts, accepts_in_graph):
        assert check(data, width * height)
        assert not check(data, width * height - 1)


def test_a_bitmap_with_rows_top_down_has_a_positive_size():
    data = top_down_bitmap(7, 5)
    assert accepts_in_graph(data, 35)
    assert not accepts_in_graph(data, 34)


def make_bomb(side):
    """A PNG whose header promises side x side pixels and whose data does not matter."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


@pytest.mark.parametrize("side", [60_000, 2**31 - 1, 2**32 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    bomb = make_bomb(side)
    assert not accepts_in_graph(bomb, 2**25)
    assert not accepts(bomb, 2**25)


@pytest.mark.parametrize("name", PICTURES)
def test_what_the_graph_would_misread_is_refused_in_it(name):
    data = PICTURES[name].data
    if name.endswith((".tif", ".tiff", ".avif", ".bmp", "animation.webp")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"images: .*{KINDS}.*rows"):
            read_in_graph(tf.constant([data]))
    else:
        assert read_in_graph(tf.constant([data])).shape == (1, 4, 4, 3)


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def read_in_graph(images):
    read = lambda data: decode_image(check_pixels(data, 2**25, "images"), (4, 4, 3))  # noqa: E731
    return tf.map_fn(read, check_images(images), fn_output_signature=tf.uint8)


def gif_frames(sides, num_frames, screen=None):
    """An animation of black frames; the first of its screens may claim another size."""
    data = make_image("GIF", *sides)
    place = data.index(b",\0\0\0\0")
    screen = data[6:10] if screen is None else struct.pack("<HH", *screen)
    comment = b"\x21\xfe\x05hello\x00"
    return data[:6] + screen + data[10:place] + (comment + data[place:-1]) * num_frames + b";"


def test_of_a_gif_the_graph_unpacks_the_first_frame_alone():
    one, many = gif_frames((300, 200), 1), gif_frames((300, 200), 40)
    read = tf.function(lambda data: check_pixels(data, 60_000, "images"))
    assert read(tf.constant(many)).numpy() == read(tf.constant(one)).numpy() == one


def test_a_gif_has_the_pixels_of_its_first_frame_where_its_screen_is_smaller():
    data = gif_frames((300, 200), 2, screen=(1, 1))
    for check in (accepts, accepts_in_graph):
        assert check(data, 60_000)
        assert not check(data, 59_999)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_gif_of_any_bytes_is_read_or_refused(data):
    """No bytes lead the walk through the blocks astray."""
    gif = bytearray(gif_frames((30, 20), 2))
    for place in data.draw(st.lists(st.integers(4, len(gif) - 1), max_size=6)):
        gif[place] = data.draw(st.integers(0, 255))
    cut = bytes(gif[: data.draw(st.integers(4, len(gif)))])
    try:
        assert read_in_graph(tf.constant([cut])).shape == (1, 4, 4, 3)
    except tf.errors.InvalidArgumentError as error:
        assert error.message
