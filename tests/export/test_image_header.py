"""Sizes of images are known, and refused, before an image is decoded."""

import io
import struct
import zlib

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfpqn.datasets import check_image_bytes
from tfpqn.export.image_checks import check_pixels

FORMATS = {
    "JPEG": ("RGB", {}),
    "PNG": ("RGB", {}),
    "GIF": ("P", {}),
    "BMP": ("RGB", {}),
    "lossy WebP": ("RGB", {}),
    "lossless WebP": ("RGB", {"lossless": True}),
    "extended WebP": ("RGBA", {"lossless": False}),
}


def make_image(kind: str, width: int, height: int) -> bytes:
    mode, options = FORMATS[kind]
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind.split()[-1], **options)
    return buffer.getvalue()


def top_down_bitmap(width: int, height: int) -> bytes:
    data = bytearray(make_image("BMP", width, height))
    data[22:26] = struct.pack("<i", -height)
    return bytes(data)


def accepts_in_graph(data: bytes, max_pixels: int) -> bool:
    try:
        check_pixels(tf.constant(data), max_pixels, "images")
    except tf.errors.InvalidArgumentError as error:
        assert f"images: expected at most {max_pixels} pixels" in error.message
        return False
    return True


def accepts(data: bytes, max_pixels: int) -> bool:
    try:
        check_image_bytes(data, max_pixels)
    except ValueError as error:
        assert f"at most {max_pixels} pixels" in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None, max_examples=12)
@given(st.integers(1, 700), st.integers(1, 300))
def test_an_image_is_accepted_up_to_its_number_of_pixels(kind, width, height):
    data = make_image(kind, width, height)
    for check in (accepts, accepts_in_graph):
        assert check(data, width * height)
        assert not check(data, width * height - 1)


def test_a_bitmap_with_rows_top_down_has_a_positive_size():
    data = top_down_bitmap(7, 5)
    assert accepts_in_graph(data, 35)
    assert not accepts_in_graph(data, 34)


def make_bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and whose data does not matter."""

    def chunk(kind: bytes, content: bytes) -> bytes:
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


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff", b"%PDF-1.4", b"II*\0" * 9])
def test_bytes_of_another_kind_are_refused(data):
    with pytest.raises(
        ValueError, match=f"JPEG, PNG, GIF, BMP or WebP.*Received {len(data)} other"
    ):
        check_image_bytes(data)
