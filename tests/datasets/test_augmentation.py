"""Laws of random crops, colours and squares: they follow one obvious loop."""

import itertools

import numpy as np
import pytest

from tfpqn.datasets.training.augmentation import Draws, crop, cut_out, jitter_colors


class Given:
    """In place of what is drawn: gives the rows of numbers that a test wants, one after another."""

    def __init__(self, numbers):
        self.rows = iter(numbers)

    def uniform(self, low=0.0, high=1.0):
        assert low < high
        return next(self.rows)


def changed(image, factors):
    """Brightness, contrast and saturation, pixel by pixel."""
    brightness, contrast, saturation = factors
    bright = image * brightness
    result = np.zeros(image.shape)
    for r, c in np.ndindex(image.shape[:2]):
        pixel = [np.mean(bright) + contrast * (value - np.mean(bright)) for value in bright[r, c]]
        grey = sum(pixel) / len(pixel)
        result[r, c] = [grey + saturation * (value - grey) for value in pixel]
    return result.clip(0, 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_follow_the_factors(rng, channels):
    images = rng.integers(0, 256, (5, 4, 3, channels), dtype=np.uint8)
    factors = rng.uniform(0.5, 1.5, (3, 5))
    found = jitter_colors(images, 0.5, Given(factors))
    assert found.dtype == np.uint8
    for image, result, chosen in zip(images, found, factors.T, strict=True):
        assert np.abs(result - changed(image, chosen)).max() <= 0.51


def cropped(image, min_area, draws):
    """The crop of one image, pixel by pixel."""
    height, width, _ = image.shape
    area = min_area + (1 - min_area) * draws[0]
    ratio = (4 / 3) ** (2 * draws[1] - 1)
    tall = height * min(1, np.sqrt(area / ratio))
    wide = width * min(1, np.sqrt(area * ratio))
    top, left = draws[2] * (height - tall), draws[3] * (width - wide)
    result = np.zeros(image.shape)
    for r, c in np.ndindex(height, width):
        y = min(max(top + (r + 0.5) * tall / height - 0.5, 0), height - 1)
        x = min(max(left + (c + 0.5) * wide / width - 0.5, 0), width - 1)
        above, before = int(y), int(x)
        below, after = min(above + 1, height - 1), min(before + 1, width - 1)
        upper = image[above, before] * (1 - (x - before)) + image[above, after] * (x - before)
        lower = image[below, before] * (1 - (x - before)) + image[below, after] * (x - before)
        result[r, c] = upper * (1 - (y - above)) + lower * (y - above)
    return result


@pytest.mark.parametrize(("min_area", "channels"), [(0.2, 3), (0.9, 1)])
def test_a_crop_is_a_rectangle_brought_back_to_size(rng, min_area, channels):
    images = rng.integers(0, 256, (6, 7, 5, channels), dtype=np.uint8)
    draws = rng.random((4, 6))
    found = crop(images, min_area, Given(draws))
    assert found.dtype == np.uint8
    for image, result, drawn in zip(images, found, draws.T, strict=True):
        assert np.abs(result - cropped(image, min_area, drawn)).max() <= 1.01


@pytest.mark.parametrize("side", [1, 3])
def test_cutout_greys_one_square_around_any_pixel(rng, side):
    images = rng.integers(0, 100, (400, 4, 5, 3), dtype=np.uint8)
    seen = set()
    for before, after in zip(images, cut_out(images, side, Draws(rng, 400)), strict=True):
        centres = set()
        for row, column in itertools.product(range(4), range(5)):
            cut = before.copy()
            top, left = row - side // 2, column - side // 2
            cut[max(top, 0) : top + side, max(left, 0) : left + side] = 128
            if np.array_equal(after, cut):
                centres.add((row, column))
        assert centres
        seen |= centres
    assert len(seen) == 20


def test_frames_of_a_clip_change_alike(rng):
    clips = np.repeat(rng.integers(0, 256, (2, 1, 4, 5, 3), dtype=np.uint8), 3, axis=1)
    for change, strength in ((crop, 0.3), (jitter_colors, 0.5), (cut_out, 2)):
        found = change(clips, strength, Draws(rng, len(clips)))
        assert not np.array_equal(found, clips)
        for frame in range(1, 3):
            np.testing.assert_array_equal(found[:, frame], found[:, 0])
