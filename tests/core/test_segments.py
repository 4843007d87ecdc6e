"""Laws of the averages over a clip's segments, against frames cut into slivers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, assert_same, few_examples, gradients, to_numpy
from tfpqn.ops import average_segments, segment_weights

NUMBERS = (st.integers(1, 7), st.integers(1, 6))


def all_frames(num_frames):
    return np.ones((1, num_frames), bool)


@few_examples
@given(*NUMBERS)
def test_the_weights_are_the_parts_of_a_segments_time(num_frames, num_segments):
    weights = to_numpy(segment_weights(all_frames(num_frames), num_segments))
    assert_close(weights[0], reference.segment_weights(num_frames, num_segments), 1e-6)


@few_examples
@given(*NUMBERS, st.integers(0, 2**32 - 1))
def test_segments_average_the_slivers_of_their_frames(num_frames, num_segments, seed):
    clips = np.random.default_rng(seed).normal(size=(3, num_frames, 2)).astype("float32")
    expected = np.array([reference.average_segments(clip, num_segments) for clip in clips])
    assert_close(average_segments(clips, num_segments), expected)
    assert_close(average_segments(clips, num_segments, np.ones((3, num_frames), bool)), expected)


@few_examples
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.integers(1, 4))
def test_a_masked_clip_is_the_shorter_clip_wherever_the_padding_stands(mask, num_segments):
    mask = np.array(mask)
    clip = np.random.default_rng(num_segments).normal(size=(6, 2)).astype("float32")
    clip[~mask] = np.nan
    found = average_segments(clip[None], num_segments, mask[None])[0]
    assert_close(found, average_segments(clip[mask][None], num_segments)[0], 1e-6)
    assert_close(found, reference.average_segments(clip[mask], num_segments))


def test_a_clip_without_frames_is_zero_and_passes_a_zero_gradient():
    clips = np.full((1, 3, 2), np.nan, "float32")
    mask = np.zeros((1, 3), bool)
    assert_same(average_segments(clips, 2, mask), np.zeros((1, 2, 2)))
    (gradient,) = gradients(lambda x: ops.sum(average_segments(x, 2, mask)), clips)
    np.testing.assert_array_equal(gradient, 0.0)


def test_padding_passes_a_zero_gradient_whatever_it_holds():
    clips = np.array([[[1.0], [np.nan], [2.0], [np.inf]]], "float32")
    mask = np.array([[True, False, True, False]])
    (gradient,) = gradients(lambda x: ops.sum(average_segments(x, 1, mask)), clips)
    assert_close(gradient[0, :, 0], [0.5, 0.0, 0.5, 0.0])
