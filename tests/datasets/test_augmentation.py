"""Laws of random colours: both twins follow one obvious loop."""

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.datasets import training_batches
from tfpqn.datasets.augmentation import jitter_colors

Factors = tuple[float, float, float]


class Given:
    """In place of a generator: gives the factors that a test wants."""

    def __init__(self, factors: np.ndarray) -> None:
        self.factors = factors

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        assert low < high
        return self.factors.reshape(shape)


def reference(image: np.ndarray, factors: Factors) -> np.ndarray:
    """Brightness, contrast and saturation, pixel by pixel."""
    brightness, contrast, saturation = factors
    bright = [[[value * brightness for value in pixel] for pixel in row] for row in image.tolist()]
    mean = np.mean(bright)
    result = np.zeros(image.shape)
    for r, row in enumerate(bright):
        for c, pixel in enumerate(row):
            pixel = [mean + contrast * (value - mean) for value in pixel]
            grey = sum(pixel) / len(pixel)
            result[r, c] = [grey + saturation * (value - grey) for value in pixel]
    return result.clip(0, 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_follow_the_factors(rng: np.random.Generator, channels: int) -> None:
    images = rng.integers(0, 256, (5, 4, 3, channels), dtype=np.uint8)
    factors = rng.uniform(0.5, 1.5, (3, 5))
    found = jitter_colors(images, 0.5, Given(factors))
    assert found.dtype == np.uint8
    for image, result, chosen in zip(images, found, factors.T, strict=True):
        assert np.abs(result - reference(image, tuple(chosen))).max() <= 0.51


def test_frames_of_a_clip_change_alike(rng: np.random.Generator) -> None:
    clips = rng.integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    factors = rng.uniform(0.5, 1.5, (3, 2))
    found = jitter_colors(clips, 0.5, Given(factors))
    as_images = jitter_colors(clips.reshape(2, 12, 5, 3), 0.5, Given(factors))
    np.testing.assert_array_equal(found.reshape(2, 12, 5, 3), as_images)


def test_twin_in_tensorflow_does_the_same(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    seed = tf.constant([3, 4], tf.int64)
    drawn = tf.random.stateless_uniform([3, 6, 1, 1, 1], seed, 0.6, 1.4).numpy()
    found = training_batches._jitter_colors(tf.constant(images), 0.4, seed).numpy()
    expected = jitter_colors(images, 0.4, Given(drawn))
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert (found != expected).mean() < 0.01
