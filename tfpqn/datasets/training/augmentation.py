"""Random changes to training items, for every backend.

Each function takes items, uint8 `[batch, height, width, channels]`, or clips `[batch, num_frames,
height, width, channels]`, whose frames are all changed alike, and gives such an array back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfpqn.datasets.image_set import ImageShape

# What stands in a square that was cut out: the middle of the pixels' range.
GREY = 128
# Of a crop, its width over its height or the other way round, beside that of the item.
LARGEST_ASPECT = 4 / 3


class Draws(NamedTuple):
    """One random number for each item; items of a part of a batch have those of the whole batch.

    Attributes:
        rng: Source of the numbers.
        batch_size: Items in the whole batch.
        rows: Which of them are changed.
    """

    rng: np.random.Generator
    batch_size: int
    rows: slice = slice(None)

    def integers(self, low: int, high: int) -> np.ndarray:
        """int64 `[items]`, from `low` to below `high`."""
        return self.rng.integers(low, high, self.batch_size)[self.rows]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """float64 `[items]`."""
        return self.rng.uniform(low, high, self.batch_size)[self.rows]


class Augmentation(NamedTuple):
    """The random changes to the items of a batch, in the order of application.

    Attributes:
        max_shift: Largest shift in pixels, see `shift_and_flip`.
        min_area: Smallest share of its area that a crop keeps, see `crop`.
        cutout: Side of the grey square, see `cut_out`.
        color_jitter: Most by which colours change, see `jitter_colors`.
    """

    max_shift: int
    min_area: float
    cutout: int
    color_jitter: float

    def require_fitting(self, image_shape: ImageShape) -> None:
        """Raise a ValueError if a setting is out of range for images of this shape."""
        if len(image_shape) != 3:
            raise ValueError(
                "augment must be False for items without pixels. "
                f"Received: items of shape {list(image_shape)}"
            )
        height, width, _ = image_shape
        for name, most in (
            ("max_shift", min(height, width) - 1),
            ("cutout", 2 * max(height, width)),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} must lie in 0 .. {most}, for images of {height} x {width} pixels. "
                    f"Received: {getattr(self, name)}"
                )
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area must lie in (0, 1]. Received: {self.min_area}")
        if not 0 <= self.color_jitter < 1:
            raise ValueError(f"color_jitter must lie in [0, 1). Received: {self.color_jitter}")

    def apply(self, images: np.ndarray, draws: Draws, mirrors_alike: bool) -> np.ndarray:
        """The items, changed; all frames of a clip alike."""
        images = shift_and_flip(images, self.max_shift, draws, mirrors_alike)
        images = crop(images, self.min_area, draws)
        images = jitter_colors(images, self.color_jitter, draws)
        return cut_out(images, self.cutout, draws)


def shift_and_flip(
    images: np.ndarray, max_shift: int, draws: Draws, mirrors_alike: bool
) -> np.ndarray:
    """Shift each item by up to `max_shift` pixels along both axes and, maybe, mirror half of them.

    What comes in at a border is the mirrored inside.
    """
    batch_size, *frames, height, width, channels = images.shape
    rows, columns = (
        _mirror(np.arange(length) + draws.integers(-max_shift, max_shift + 1)[:, None], length)
        for length in (height, width)
    )
    if mirrors_alike:
        flips = draws.uniform() < 0.5
        columns = np.where(flips[:, None], columns[:, ::-1], columns)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    # One gather from all pixels of all frames, each of which begins where the last one ended.
    num_frames = math.prod(frames)
    starts = np.arange(batch_size * num_frames).reshape(batch_size, num_frames, 1, 1)
    places = starts * (height * width) + pixels[:, None]
    return images.reshape(-1, channels).take(places, axis=0).reshape(images.shape)


def crop(images: np.ndarray, min_area: float, draws: Draws) -> np.ndarray:
    """Cut a random rectangle out of each item and bring it back to the item's size.

    Its share of the area is uniform in `min_area .. 1`, the logarithm of its aspect in that of
    `3 / 4 .. 4 / 3`, and its place uniform inside; pixels between pixels are linear in both axes.
    """
    if min_area == 1:
        return images
    _, *frames, height, width, _ = images.shape
    area, aspect, top, left = (draws.uniform() for _ in range(4))
    area = min_area + (1.0 - min_area) * area
    ratio = LARGEST_ASPECT ** (2.0 * aspect - 1.0)
    heights = height * np.minimum(np.sqrt(area / ratio), 1.0)
    widths = width * np.minimum(np.sqrt(area * ratio), 1.0)
    tops, lefts = top * (height - heights), left * (width - widths)
    boxes = np.stack([lefts, tops, lefts + widths, tops + heights], axis=1)
    # Rounding may lift an edge out of the image.
    boxes = np.minimum(boxes, [width, height, width, height])
    cropped = np.empty_like(images)
    for item, result, box in zip(images, cropped, boxes.tolist(), strict=True):
        for frame in np.ndindex(*frames):
            result[frame] = _enlarge(item[frame], tuple(box))
    return cropped


def _enlarge(image: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """A rectangle of an image (left, top, right, bottom), at the size of the image."""
    height, width, channels = image.shape
    # Pillow knows three channels as colours; others are taken one by one.
    layers = [image] if channels == 3 else np.moveaxis(image, -1, 0)
    resized = [
        np.asarray(
            Image.fromarray(layer).resize((width, height), Image.Resampling.BILINEAR, box=box)  # type: ignore[arg-type]
        )
        for layer in layers
    ]
    return resized[0] if channels == 3 else np.stack(resized, axis=-1)


def cut_out(images: np.ndarray, side: int, draws: Draws) -> np.ndarray:
    """Paint a square of `side` pixels around a random pixel of each item grey."""
    if not side:
        return images
    batch_size, *frames, height, width, _ = images.shape
    within = []
    for length in (height, width):
        first = draws.integers(0, length)[:, None] - side // 2
        pixels = np.arange(length)
        within.append((pixels >= first) & (pixels < first + side))
    square = within[0][:, :, None] & within[1][:, None, :]
    square = square.reshape(batch_size, *(1 for _ in frames), height, width)
    painted = images.copy()
    painted[np.broadcast_to(square, images.shape[:-1])] = GREY
    return painted


def jitter_colors(images: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
    """Change brightness, contrast and saturation by random factors within `strength` of 1.

    Brightness multiplies all pixels; contrast moves them from their mean; saturation moves the
    channels from their mean at each pixel, which leaves grey images as they are.
    """
    if not strength:
        return images
    shape = (-1, *(1 for _ in images.shape[1:]))
    brightness, contrast, saturation = (
        draws.uniform(1.0 - strength, 1.0 + strength).astype(np.float32).reshape(shape)
        for _ in range(3)
    )
    # What each of the three adds up to: for a pixel, for its grey and for the mean of all.
    mean = images.mean(axis=tuple(range(1, images.ndim)), keepdims=True, dtype=np.float32)
    channels = images.shape[-1]
    grey = images @ np.full((channels, 1), 1 / channels, np.float32)
    pixels = images * (brightness * contrast * saturation)
    pixels += brightness * contrast * (1.0 - saturation) * grey
    pixels += brightness * (1.0 - contrast) * mean
    return np.clip(pixels, 0.0, 255.0, out=pixels).round(out=pixels).astype(images.dtype)


def _mirror(places: np.ndarray, length: int) -> np.ndarray:
    """Places of a row of pixels that goes on beyond its ends as its own mirror image."""
    period = max(1, 2 * (length - 1))
    places = places % period
    return np.minimum(places, period - places)
