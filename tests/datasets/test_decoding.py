"""Laws of the decoder: what is the right size is not touched, what is broken is an error."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfpqn.datasets import decode_image
from tfpqn.datasets.images.decoding import fit_frame

LOSSLESS = ("PNG", "BMP", "GIF")
FORMATS = (*LOSSLESS, "JPEG")


def encode(pixels: np.ndarray, format: str, **options) -> bytes:
    """Pixels `[height, width, channels]` as an image file."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(data: bytes, image_shape: tuple[int, int, int]) -> np.ndarray:
    return decode_image(tf.constant(data), image_shape).numpy()


@pytest.fixture
def color(rng: np.random.Generator) -> np.ndarray:
    # 8 x 8 pixels have at most 64 colours, so that a GIF's palette holds them all.
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def grey(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("format", LOSSLESS)
def test_image_of_the_right_size_passes_unchanged(color: np.ndarray, format: str) -> None:
    decoded = decode(encode(color, format), (8, 8, 3))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, color)


def test_jpeg_of_the_right_size_is_as_its_own_decoder_gives_it(color: np.ndarray) -> None:
    data = encode(color, "JPEG")
    expected = tf.io.decode_jpeg(data, channels=3).numpy()
    np.testing.assert_array_equal(decode(data, (8, 8, 3)), expected)


@pytest.mark.parametrize("format", LOSSLESS)
def test_grey_image_of_any_format_passes_unchanged_to_a_network_of_one_channel(
    grey: np.ndarray, format: str
) -> None:
    np.testing.assert_array_equal(decode(encode(grey, format), (8, 8, 1)), grey)


@pytest.mark.parametrize("format", FORMATS)
def test_network_of_one_channel_sees_the_brightness_of_a_color_image(format: str) -> None:
    color = np.full((8, 8, 3), (250, 20, 60), np.uint8)
    brightness = 0.299 * 250 + 0.587 * 20 + 0.114 * 60
    decoded = decode(encode(color, format), (8, 8, 1))
    assert decoded.shape == (8, 8, 1)
    np.testing.assert_allclose(decoded, brightness, atol=3)


def test_grey_image_gets_three_equal_channels(grey: np.ndarray) -> None:
    for format in LOSSLESS:
        np.testing.assert_array_equal(
            decode(encode(grey, format), (8, 8, 3)), np.repeat(grey, 3, axis=-1)
        )


@pytest.mark.parametrize("size", [(8, 5), (3, 8), (16, 16), (1, 1)])
@pytest.mark.parametrize("format", FORMATS)
def test_image_of_another_size_is_resized_as_tf_image_does_it(
    color: np.ndarray, format: str, size: tuple[int, int]
) -> None:
    data = encode(color, format)
    original = tf.io.decode_image(data, channels=3, expand_animations=False)
    resized = tf.image.resize(original, size, method="bilinear", antialias=True).numpy()
    expected = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(decode(data, (*size, 3)), expected)


def test_first_frame_of_an_animation_is_taken(color: np.ndarray) -> None:
    frames = [Image.fromarray(color), Image.fromarray(255 - color)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(buffer.getvalue(), (8, 8, 3)), color)


def test_shape_is_known_while_tracing(color: np.ndarray) -> None:
    def decode_in_graph(data: tf.Tensor) -> tf.Tensor:
        image = decode_image(data, (4, 6, 3))
        assert image.shape == (4, 6, 3)
        return image

    data = [encode(color, format) for format in FORMATS]
    (batch,) = tf.data.Dataset.from_tensor_slices(data).map(decode_in_graph).batch(8)
    for image, expected in zip(batch.numpy(), data, strict=True):
        np.testing.assert_array_equal(image, decode(expected, (4, 6, 3)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", FORMATS)
def test_truncated_image_is_an_error(color: np.ndarray, format: str, channels: int) -> None:
    data = encode(color, format)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(data[: len(data) // 2], (8, 8, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data", [b"", b"\x89", b"not an image", b"\0" * 1000])
def test_what_is_no_image_is_an_error(data: bytes, channels: int) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(data, (8, 8, channels))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (5, 13, 3), (16, 4, 1)])
def test_decoded_frame_is_fitted_as_the_encoded_one_is(
    color: np.ndarray, shape: tuple[int, int, int]
) -> None:
    # A BMP is turned grey here; of a PNG libpng would make grey with weights of its own.
    expected = decode(encode(color, "BMP"), shape)
    np.testing.assert_array_equal(fit_frame(color, shape), expected)
