"""Laws of the decoder: the right size is not touched, and a broken image is an error."""

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.pictures import save
from tfpqn.datasets import decode_image
from tfpqn.datasets.images.decoding import decode_image_bytes, fit_frame

LOSSLESS = ("PNG", "BMP", "GIF")
FORMATS = (*LOSSLESS, "JPEG")


@pytest.fixture
def color(rng):
    # 8 x 8 pixels have at most 64 colours, so that a GIF's palette holds them all.
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("format", LOSSLESS)
def test_image_of_the_right_size_passes_unchanged(color, format):
    np.testing.assert_array_equal(decode_image_bytes(save(color, format), (8, 8, 3)), color)
    grey = color[..., :1]
    data = save(grey[..., 0], format)
    np.testing.assert_array_equal(decode_image_bytes(data, (8, 8, 1)), grey)
    np.testing.assert_array_equal(decode_image_bytes(data, (8, 8, 3)), grey.repeat(3, axis=-1))


@pytest.mark.parametrize("size", [(8, 5), (3, 8), (16, 16), (1, 1)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_image_of_another_size_is_resized_as_tf_image_does_it(color, format, size):
    data = save(color, format)
    original = tf.io.decode_image(data, channels=3, expand_animations=False)
    resized = tf.image.resize(original, size, method="bilinear", antialias=True).numpy()
    expected = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(decode_image_bytes(data, (*size, 3)), expected)


def test_shape_is_known_while_tracing(color):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode_in_graph(data):
        image = decode_image(data, (4, 6, 3))
        assert image.shape == (4, 6, 3)
        return image

    for data in (save(color, format) for format in FORMATS):
        np.testing.assert_array_equal(decode_in_graph(data), decode_image_bytes(data, (4, 6, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_no_whole_image_is_an_error(color, channels):
    whole = [save(color, format) for format in FORMATS]
    cut = [data[: len(data) // 2] for data in whole]
    for data in (*cut, b"", b"\x89", b"not an image", b"\0" * 1000):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_image(tf.constant(data), (8, 8, channels))
        with pytest.raises(ValueError) as caught:
            decode_image_bytes(data, (8, 8, channels))
        assert "[Op:" not in str(caught.value)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (5, 13, 3), (16, 4, 1)])
def test_decoded_frame_is_fitted_as_the_encoded_one_is(color, shape):
    # A BMP is turned grey here; of a PNG libpng would make grey with weights of its own.
    expected = decode_image_bytes(save(color, "BMP"), shape)
    np.testing.assert_array_equal(fit_frame(color, shape), expected)


@pytest.mark.parametrize(("size", "taken"), [((4, 9), np.s_[:, 2:6]), ((10, 4), np.s_[3:7])])
def test_a_crop_is_the_middle_and_a_pad_has_grey_borders(rng, size, taken):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    data = save(pixels, "PNG")
    np.testing.assert_array_equal(decode_image_bytes(data, (4, 4, 3), "crop"), pixels[taken])
    side = max(size)
    padded = decode_image_bytes(data, (side, side, 3), "pad")
    before = [(side - length) // 2 for length in size]
    inside = tuple(slice(b, b + length) for b, length in zip(before, size, strict=True))
    np.testing.assert_array_equal(padded[inside], pixels)
    outside = np.ones((side, side), bool)
    outside[inside] = False
    assert (padded[outside] == 128).all()


@pytest.mark.parametrize("size", [(57, 301), (200, 33), (60, 91), (5, 9), (12, 16)])
def test_a_pad_has_the_pixels_of_the_whole_resized_with_its_borders(rng, size):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    scale = max(size[0] / 24, size[1] / 32)
    missing = [round(scale * 24) - size[0], round(scale * 32) - size[1]]
    edges = [(number // 2, number - number // 2) for number in missing]
    borders = np.pad(pixels, [*edges, (0, 0)], constant_values=128)
    expected = np.rint(tf.image.resize(borders, (24, 32), antialias=True).numpy())
    padded = decode_image_bytes(save(pixels, "PNG"), (24, 32, 3), "pad").astype(float)
    # They may differ where the borders begin, by as much as the resizing smooths.
    is_far = np.ones((24, 32), bool)
    for axis, before in enumerate(before for before, _ in edges):
        for begin in (before, before + size[axis]) if missing[axis] else ():
            places = (np.arange((24, 32)[axis]) + 0.5) * scale
            is_far &= np.expand_dims(abs(places - begin) > max(scale, 1), 1 - axis)
    assert is_far.mean() > 0.4
    np.testing.assert_allclose(padded[is_far], expected[is_far], atol=1)


def test_borders_take_no_memory_around_a_line_of_a_million_pixels():
    data = save(np.zeros((1, 10**6), bool), "PNG")
    assert decode_image_bytes(data, (8, 6, 3), "pad").shape == (8, 6, 3)


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_another_aspect_is_resized_alike_inside_and_outside_of_a_graph(rng, resize):
    in_graph = tf.function(lambda data: decode_image(data, (8, 6, 3), resize))
    for size in ((7, 30), (5, 6), (9, 2), (8, 6), (1, 900)):
        data = save(rng.integers(0, 256, (*size, 3), dtype=np.uint8), "PNG")
        expected = decode_image_bytes(data, (8, 6, 3), resize)
        np.testing.assert_array_equal(in_graph(tf.constant(data)), expected)
