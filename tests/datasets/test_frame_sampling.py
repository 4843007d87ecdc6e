"""Laws of frame sampling: a frame of each stretch, in order, however short the clip."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.datasets.clips.frame_sampling import choose_frames

LENGTHS = st.integers(1, 5000)
COUNTS = st.integers(1, 200)
SEEDS = st.integers(-(2**63), 2**63 - 1)


@given(LENGTHS, COUNTS)
def test_uniform_sampling_takes_the_middle_of_each_stretch(length, count):
    chosen = choose_frames(length, count)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [(2 * i + 1) * length // (2 * count) for i in range(count)]


@given(LENGTHS, COUNTS, SEEDS)
def test_jittered_sampling_stays_in_each_stretch(length, count, seed):
    chosen = choose_frames(length, count, seed)
    np.testing.assert_array_equal(chosen, choose_frames(length, count, seed))
    assert chosen.dtype == np.int64
    assert chosen.shape == (count,)
    for stretch, frame in enumerate(chosen.tolist()):
        assert stretch * length // count <= frame <= (stretch + 1) * length // count
        assert frame < length
    assert np.all(np.diff(chosen) >= 0)


def test_every_frame_of_a_stretch_is_drawn_equally_often():
    draws = np.array([choose_frames(12, 4, number) for number in range(3000)])
    for stretch in range(4):
        counts = np.bincount(draws[:, stretch] - 3 * stretch, minlength=3)
        assert counts.sum() == 3000
        assert np.all(np.abs(counts - 1000) < 120)
