"""Laws of frame sampling: a frame of each stretch, in order, however short the clip."""

import math

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


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(12, 8, [0, 2, 3, 5, 6, 8, 9, 11]), (5, 5, [0, 1, 2, 3, 4]), (9, 1, [4]), (1, 3, [0, 0, 0])],
)
def test_uniform_sampling_of_known_cases(length: int, count: int, expected: list[int]) -> None:
    assert sample_uniformly(length, count).tolist() == expected
    floors = [math.floor((i + 0.5) * length / count) for i in range(count)]
    assert floors == expected


@given(LENGTHS, COUNTS, SEEDS)
def test_jittered_sampling_stays_in_each_stretch(length: int, count: int, seed: int) -> None:
    chosen = sample_jittered(length, count, seed)
    assert chosen.dtype == np.int64
    assert chosen.shape == (count,)
    for stretch, frame in enumerate(chosen.tolist()):
        assert stretch * length // count <= frame <= (stretch + 1) * length // count
        assert frame < length
    assert np.all(np.diff(chosen) >= 0)


@given(LENGTHS, COUNTS, SEEDS)
def test_jittered_sampling_depends_on_the_seed_alone(length: int, count: int, seed: int) -> None:
    np.random.default_rng().random()
    first, again = (sample_jittered(length, count, seed) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_other_seeds_draw_other_frames() -> None:
    draws = {tuple(sample_jittered(10_000, 8, seed).tolist()) for seed in range(4)}
    assert len(draws) == 4


def test_every_frame_of_a_stretch_is_drawn_equally_often() -> None:
    draws = np.array([sample_jittered(12, 4, number) for number in range(3000)])
    for stretch in range(4):
        counts = np.bincount(draws[:, stretch] - 3 * stretch, minlength=3)
        assert counts.sum() == 3000
        assert np.all(np.abs(counts - 1000) < 120)


@pytest.mark.parametrize("length", [0, -1])
def test_clip_without_frames_is_refused(length: int) -> None:
    for sample in (sample_uniformly, lambda *args: sample_jittered(*args, 0)):
        with pytest.raises(ValueError, match=f"at least one frame. Received: {length}"):
            sample(length, 4)


@pytest.mark.parametrize("count", [0, -2])
def test_number_of_frames_must_be_positive(count: int) -> None:
    for sample in (sample_uniformly, lambda *args: sample_jittered(*args, 0)):
        with pytest.raises(ValueError, match=f"num_frames must be at least 1. Received: {count}"):
            sample(4, count)
