"""Laws of frame sampling: a frame of each stretch, in order, however short the clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.datasets import sample_jittered, sample_uniformly

LENGTHS = st.integers(1, 5000)
COUNTS = st.integers(1, 200)
SEEDS = st.integers(-(2**63), 2**63 - 1)


def middle_frames(num_available: int, num_frames: int) -> list[int]:
    """The definition, number by number and without rounding errors."""
    return [(2 * i + 1) * num_available // (2 * num_frames) for i in range(num_frames)]


@given(LENGTHS, COUNTS)
def test_uniform_sampling_takes_the_middle_of_each_stretch(length: int, count: int) -> None:
    chosen = sample_uniformly(length, count)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == middle_frames(length, count)
    assert all(0 <= frame < length for frame in chosen.tolist())


@given(LENGTHS, COUNTS, SEEDS)
def test_jittered_sampling_stays_in_each_stretch(length: int, count: int, seed: int) -> None:
    chosen = sample_jittered(length, count, seed)
    np.testing.assert_array_equal(chosen, sample_jittered(length, count, seed))
    assert chosen.dtype == np.int64
    assert chosen.shape == (count,)
    for stretch, frame in enumerate(chosen.tolist()):
        assert stretch * length // count <= frame <= (stretch + 1) * length // count
        assert frame < length
    assert np.all(np.diff(chosen) >= 0)


def test_other_seeds_draw_other_frames() -> None:
    draws = {tuple(sample_jittered(10_000, 8, seed).tolist()) for seed in range(4)}
    assert len(draws) == 4


def test_every_frame_of_a_stretch_is_drawn_equally_often() -> None:
    draws = np.array([sample_jittered(12, 4, number) for number in range(3000)])
    for stretch in range(4):
        counts = np.bincount(draws[:, stretch] - 3 * stretch, minlength=3)
        assert counts.sum() == 3000
        assert np.all(np.abs(counts - 1000) < 120)


def test_clip_without_frames_and_no_frames_wanted_are_refused() -> None:
    for sample in (sample_uniformly, lambda *args: sample_jittered(*args, 0)):
        with pytest.raises(ValueError, match="at least one frame. Received: 0"):
            sample(0, 4)
        with pytest.raises(ValueError, match="num_frames must be at least 1. Received: -2"):
            sample(4, -2)
