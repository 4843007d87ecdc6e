"""Digits that move from corner to corner: the label is their motion, not what they are."""

from __future__ import annotations

import itertools

import numpy as np

from tfpqn.datasets.clips.arrays import ClipArrays

# Row and column of each corner, as shares of the room that a digit has on the canvas.
CORNERS = {
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}
MOTIONS = tuple(itertools.permutations(CORNERS, 2))
CANVAS = 20
FRAMES_STORED = 12
# How far from its corner, along rows and columns, a path may begin or end, in pixels.
CORNER_SIZE = 6.0
# Standard deviation of the noise, in grey levels.
NOISE = 8.0


def make_moving_digits(
    digits: np.ndarray, num_clips: int, num_frames: int, seed: int, first_id: int = 0
) -> ClipArrays:
    """Clips of digits that move straight from one corner to another, as many of each motion.

    No single frame says which motion it is: the first frame tells where it began, which 3 of the 12
    motions share, the last where it ends, and for one in between the corners are too wide to tell
    where it came from and where it goes. Nor does an average of frames: opposite motions show the
    same frames in opposite order.

    Args:
        digits: uint8 `[num_digits, height, width]`: what moves; each clip draws one of them.
        num_clips: Number of clips.
        num_frames: Frames sampled from each clip, of the 12 that are made.
        seed: Seed of all that is drawn.
        first_id: Id of the first clip; the others count on from it.

    Returns:
        Clips of one channel, `ids` counting from `first_id`, labels numbering `MOTIONS`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_clips) % len(MOTIONS))
    moving = digits[rng.integers(len(digits), size=num_clips)]
    corners = _draw_paths(labels, CANVAS - digits.shape[1], rng)
    pixels = _render(moving, corners.reshape(-1, 2))
    pixels += NOISE * rng.standard_normal(pixels.shape, dtype=np.float32)
    return ClipArrays(
        np.clip(np.round(pixels), 0, 255).astype(np.uint8),
        np.arange(num_clips + 1) * FRAMES_STORED,
        labels,
        first_id + np.arange(num_clips),
        [f"{start} to {end}" for start, end in MOTIONS],
        num_frames=num_frames,
        mirrors_alike=False,
    )


def _draw_paths(labels: np.ndarray, room: int, rng: np.random.Generator) -> np.ndarray:
    """Upper left corner of each digit at each time: `[num_clips, frames_stored, 2]`."""
    ends = np.array([[CORNERS[corner] for corner in motion] for motion in MOTIONS])[labels]
    # Both ends lie inside the canvas, off their corners by chance.
    ends = ends * (room - CORNER_SIZE) + rng.uniform(0.0, CORNER_SIZE, ends.shape)
    times = np.linspace(0.0, 1.0, FRAMES_STORED)[:, np.newaxis]
    return ends[:, :1] + times * (ends[:, 1:] - ends[:, :1])


def _render(digits: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Each digit at its corners, between pixels bilinearly: `[num_frames, canvas, canvas]`."""
    height, width = digits.shape[1:]
    rows, columns = (_weights(corners[:, axis], size) for axis, size in enumerate((height, width)))
    repeated = np.repeat(digits.astype(np.float32), FRAMES_STORED, axis=0)
    return rows @ repeated @ columns.transpose(0, 2, 1)


def _weights(starts: np.ndarray, size: int) -> np.ndarray:
    """How much of each of `size` pixels falls on each of the canvas: `[num_starts, canvas, size]`.

    Equals `max(0, 1 - |canvas pixel - (start + pixel)|)`.
    """
    places = (starts[:, np.newaxis, np.newaxis] + np.arange(size)).astype(np.float32)
    distances = np.abs(np.arange(CANVAS, dtype=np.float32)[:, np.newaxis] - places)
    return np.maximum(0.0, 1.0 - distances)
