"""Random changes to training items, on arrays: the twins of those in TensorFlow's batches."""

from __future__ import annotations

import math

import numpy as np

# What stands in a square that was cut out: the middle of the pixels' range.
GREY = 128


def shift_and_flip(
    images: np.ndarray, max_shift: int, rng: np.random.Generator, mirrors_alike: bool
) -> np.ndarray:
    """Shift each item by up to `max_shift` pixels along both axes and, maybe, mirror half of them.

    What comes in at a border is the mirrored inside. All frames of a clip are treated alike.

    Args:
        images: `[batch, height, width, channels]`; clips `[batch, num_frames, height, width,
            channels]`.
        max_shift: Largest shift in pixels.
        rng: Draws shifts and flips.
        mirrors_alike: Whether to mirror.

    Returns:
        Array of the same shape and dtype.
    """
    batch_size, *frames, height, width, channels = images.shape
    rows, columns = (
        _mirror(
            np.arange(length) + rng.integers(-max_shift, max_shift + 1, (batch_size, 1)), length
        )
        for length in (height, width)
    )
    if mirrors_alike:
        flips = rng.random((batch_size, 1)) < 0.5
        columns = np.where(flips, columns[:, ::-1], columns)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    # One gather from all pixels of all frames, each of which begins where the last one ended.
    num_frames = math.prod(frames)
    starts = np.arange(batch_size * num_frames).reshape(batch_size, num_frames, 1, 1)
    places = starts * (height * width) + pixels[:, None]
    return images.reshape(-1, channels).take(places, axis=0).reshape(images.shape)


def cut_out(images: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Paint a square of `side` pixels around a random pixel of each item grey.

    Args:
        images: `[batch, height, width, channels]`, or clips, whose frames are painted alike.
        side: Side of the square in pixels; what of it lies outside is lost. 0 for no square.
        rng: Draws the pixels.

    Returns:
        Array of the same shape and dtype.
    """
    if not side:
        return images
    batch_size, *frames, height, width, _ = images.shape
    within = []
    for length in (height, width):
        first = rng.integers(length, size=(batch_size, 1)) - side // 2
        pixels = np.arange(length)
        within.append((pixels >= first) & (pixels < first + side))
    square = within[0][:, :, None] & within[1][:, None, :]
    square = square.reshape(batch_size, *(1 for _ in frames), height, width)
    painted = images.copy()
    painted[np.broadcast_to(square, images.shape[:-1])] = GREY
    return painted


def jitter_colors(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation of each item by random factors, in this order.

    Brightness multiplies all pixels; contrast moves them from their mean; saturation moves the
    channels from their mean at each pixel, which leaves grey images as they are.

    Args:
        images: uint8 `[batch, height, width, channels]`, or clips, whose frames change alike.
        strength: The factors lie in `1 - strength .. 1 + strength`; 0 for no change.
        rng: Draws the factors.

    Returns:
        Array of the same shape and dtype, rounded, and clipped to 0 .. 255.
    """
    if not strength:
        return images
    shape = (3, len(images), *(1 for _ in images.shape[1:]))
    factors = rng.uniform(1.0 - strength, 1.0 + strength, shape).astype(np.float32)
    brightness, contrast, saturation = factors
    pixels = images * brightness
    mean = pixels.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
    pixels = mean + contrast * (pixels - mean)
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + saturation * (pixels - grey)
    return np.clip(pixels, 0.0, 255.0).round().astype(images.dtype)


def _mirror(places: np.ndarray, length: int) -> np.ndarray:
    """Places of a row of pixels that goes on beyond its ends as its own mirror image."""
    period = max(1, 2 * (length - 1))
    places = places % period
    return np.minimum(places, period - places)
