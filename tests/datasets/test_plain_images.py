"""Laws of image files of all kinds: read as a viewer shows them, or refused in a sentence."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.datasets.pictures import ORIENTATION, PICTURES, STORED, Picture, patches, save
from tfpqn.datasets import decode_image, make_plain

CONVERTED = ("bmp", "gif", "tif", "tiff", "avif", "animation.webp")
BRIGHTNESS = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_is_read_as_a_viewer_shows_it(name):
    picture = PICTURES[name]
    plain = make_plain(picture.data)
    assert (plain == picture.data) == (not name.endswith(CONVERTED))
    assert make_plain(plain) == plain
    read = decode_image(tf.constant(plain), picture.shown.shape).numpy()
    picture.require(read)
    grey = decode_image(tf.constant(plain), (*picture.shown.shape[:2], 1)).numpy()
    brightness = np.repeat(picture.shown @ BRIGHTNESS[:, None], 3, axis=-1)
    Picture(b"", brightness, picture.tolerance + 2).require(np.repeat(grey, 3, axis=-1))


READ_IN_GRAPH = tf.function(
    lambda data: decode_image(data, patches().shape),
    input_signature=[tf.TensorSpec([], tf.string)],
)


@given(
    mark=st.integers(0, 9),
    endian=st.sampled_from("<>"),
    others=st.lists(st.sampled_from([0x0100, 0x010F, 0x0131, 0x8769]), max_size=6),
    gap=st.integers(0, 9),
    before=st.sampled_from([b"", b"\xff\xe2\x00\x08profil", b"\xff\xfe\x00\x06Exif"]),
    cut=st.integers(0, 60),
)
def test_a_mark_is_found_wherever_exif_data_hold_it(mark, endian, others, gap, before, cut):
    """A mark that says nothing, and one that is cut off, leaves the picture as it is."""
    entries = [struct.pack(endian + "HHII", tag, 4, 1, 7) for tag in others]
    entries.append(struct.pack(endian + "HHIHH", ORIENTATION, 3, 1, mark, 0))
    exif = {"<": b"II*\0", ">": b"MM\0*"}[endian] + struct.pack(endian + "I", 8 + gap)
    exif += bytes(gap) + struct.pack(endian + "H", len(entries)) + b"".join(entries)
    # The last two bytes are empty, and behind the mark.
    is_whole = cut <= 2 or cut > 50
    exif = b"Exif\0\0" + (exif if is_whole else exif[:-cut])
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    orientation = mark if mark in STORED and is_whole else 1
    stored = save(np.ascontiguousarray(STORED[orientation](patches())), "JPEG", quality=95)
    marked = stored[:2] + before + segment + stored[2:]
    for read in (READ_IN_GRAPH, lambda data: decode_image(tf.constant(data), patches().shape)):
        Picture(marked, patches(), 4).require(read(marked).numpy())


@pytest.mark.parametrize("name", [name for name in PICTURES if name.endswith(CONVERTED)])
def test_broken_files_are_refused_in_a_sentence(name):
    data = PICTURES[name].data
    rng = np.random.default_rng(0)
    for length in (20, len(data) // 2):
        with pytest.raises(ValueError, match="Received"):
            make_plain(data[:length])
    for _ in range(20):
        flipped = bytearray(data)
        flipped[rng.integers(8, len(data))] ^= 1 << rng.integers(8)
        try:
            with Image.open(io.BytesIO(make_plain(bytes(flipped)))) as image:
                assert image.mode in ("L", "RGB")
        except ValueError as error:
            assert "expected" in str(error) and "Received" in str(error)
