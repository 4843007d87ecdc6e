"""Which frames of a clip are looked at."""

from __future__ import annotations

import numpy as np


def sample_uniformly(num_available: int, num_frames: int) -> np.ndarray:
    """The middle frame of each of `num_frames` equal stretches of a clip.

    A clip shorter than `num_frames` repeats frames.

    Returns:
        int64 `[num_frames]`, frame numbers that never fall.

    Raises:
        ValueError: The clip has no frame, or none is wanted.
    """
    _check(num_available, num_frames)
    # floor((i + 0.5) * num_available / num_frames), in whole numbers.
    stretches = np.arange(num_frames, dtype=np.int64)
    return (2 * stretches + 1) * num_available // (2 * num_frames)


def sample_jittered(num_available: int, num_frames: int, seed: int) -> np.ndarray:
    """A random frame of each of `num_frames` equal stretches of a clip.

    The choice depends on the arguments alone. A clip shorter than `num_frames` repeats frames.

    Args:
        num_available: Number of frames that the clip has.
        num_frames: Number of frames wanted.
        seed: An integer of any sign.

    Returns:
        int64 `[num_frames]`, frame numbers that never fall.

    Raises:
        ValueError: The clip has no frame, or none is wanted.
    """
    _check(num_available, num_frames)
    rng = np.random.default_rng(seed % 2**64)
    places = (np.arange(num_frames) + rng.random(num_frames)) * num_available / num_frames
    # Rounding may lift the last place to num_available itself.
    return np.minimum(places.astype(np.int64), num_available - 1)


def choose_frames(num_available: int, num_frames: int, seed: int | None) -> np.ndarray:
    """`sample_jittered` with a seed, `sample_uniformly` without."""
    if seed is None:
        return sample_uniformly(num_available, num_frames)
    return sample_jittered(num_available, num_frames, seed)


def _check(num_available: int, num_frames: int) -> None:
    if num_available < 1:
        raise ValueError(f"A clip must have at least one frame. Received: {num_available}")
    check_num_frames(num_frames)


def check_num_frames(num_frames: int) -> None:
    """Refuse a number of frames below one."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1. Received: {num_frames}")
