"""Which frames of a clip are looked at."""

from __future__ import annotations

import numpy as np


def choose_frames(num_available: int, num_frames: int, seed: int | None = None) -> np.ndarray:
    """One frame of each of `num_frames` equal stretches of a clip; a short clip repeats frames.

    Args:
        num_available: Number of frames that the clip has.
        num_frames: Number of frames wanted.
        seed: Draws a random frame of each stretch, and nothing else decides; without it the middle
            frames are taken.

    Returns:
        int64 `[num_frames]`, frame numbers that never fall.

    Raises:
        ValueError: The clip has no frame, or none is wanted.
    """
    if num_available < 1:
        raise ValueError(f"A clip must have at least one frame. Received: {num_available}")
    check_num_frames(num_frames)
    stretches = np.arange(num_frames, dtype=np.int64)
    if seed is None:
        # floor((i + 0.5) * num_available / num_frames), in whole numbers.
        return (2 * stretches + 1) * num_available // (2 * num_frames)
    rng = np.random.default_rng(seed % 2**64)
    places = (stretches + rng.random(num_frames)) * num_available / num_frames
    # Rounding may lift the last place to num_available itself.
    return np.minimum(places.astype(np.int64), num_available - 1)


def check_num_frames(num_frames: int) -> None:
    """Refuse a number of frames below one."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1. Received: {num_frames}")
