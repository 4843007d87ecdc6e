"""Laws of the operations: subvectors and their directions, lookup tables, segments of clips."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, assert_same, few_examples, gradients, to_numpy
from tfpqn.ops import (
    adc_scores,
    average_segments,
    code_dtype,
    merge_subvectors,
    motion_images,
    normalize_vectors,
    split_subvectors,
)

seeds = st.integers(0, 2**32 - 1)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_leading_axes_stay_as_they_are(rng):
    embeddings = rng.normal(size=(2, 3, 8)).astype("float32")
    subvectors = split_subvectors(embeddings, 4)
    assert subvectors.shape == (2, 3, 4, 2)
    assert_same(merge_subvectors(subvectors), embeddings)


@given(seeds, st.floats(-30, 37))
def test_every_vector_gets_unit_length_and_keeps_its_direction(seed, exponent):
    vectors = (draw(seed, 5, 3) + np.float32(0.01)) * np.float32(10.0**exponent)
    units = to_numpy(normalize_vectors(vectors))
    assert_close(units, reference.unit(vectors))
    assert_close(np.linalg.norm(units, axis=-1), np.ones(5))


@few_examples
@given(seeds, st.integers(-100, 100))
def test_a_power_of_two_changes_no_bit_of_a_direction(seed, exponent):
    vectors = draw(seed, 5, 8)
    scaled = to_numpy(normalize_vectors(vectors * np.float32(2.0**exponent)))
    np.testing.assert_array_equal(scaled, to_numpy(normalize_vectors(vectors)))


def test_normalising_keeps_shape_and_dtype(rng):
    vectors = rng.normal(size=(2, 3, 4)).astype("float16")
    units = normalize_vectors(vectors)
    assert units.shape == (2, 3, 4)
    assert keras.backend.standardize_dtype(units.dtype) == "float16"
    assert_close(units, reference.unit(vectors).astype("float16"), 2e-3)


@pytest.mark.parametrize("length", [0.0, 1e-38, 1e-7])
def test_a_vector_of_hardly_any_length_passes_a_zero_gradient(length):
    vectors = np.array([[length, 0.0, 0.0], [3.0, 0.0, 4.0]], "float32")
    # Processors may take numbers below the smallest normal one, 1.2e-38, for zero.
    if length != 1e-38:
        assert_close(normalize_vectors(vectors), [[length > 0, 0.0, 0.0], [0.6, 0.0, 0.8]])
    (gradient,) = gradients(lambda x: ops.sum(normalize_vectors(x)), vectors)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0], 0.0)
    assert gradient[1].any()


@few_examples
@given(st.integers(1, 3), st.integers(0, 6), st.integers(1, 5), seeds)
def test_scores_are_the_sums_of_the_entries_that_the_codes_name(queries, items, length, seed):
    rng = np.random.default_rng(seed)
    tables = rng.normal(size=(queries, length, 7)).astype("float32")
    codes = rng.integers(0, 7, size=(items, length)).astype("uint8")
    assert_close(adc_scores(tables, codes), reference.adc_scores(tables, codes))


@pytest.mark.parametrize("num_codewords", [256, 65536, 65537])
def test_the_last_codeword_counts_in_every_dtype_of_codes(rng, num_codewords):
    tables = rng.normal(size=(2, 3, num_codewords)).astype("float32")
    codes = rng.integers(0, num_codewords, size=(4, 3)).astype(code_dtype(num_codewords))
    codes[0] = num_codewords - 1
    assert_close(adc_scores(tables, codes), reference.adc_scores(tables, codes))


def test_equal_codes_get_bit_equal_scores_wherever_they_stand(rng):
    tables = rng.normal(size=(5, 8, 16)).astype("float32")
    codes = rng.integers(0, 16, size=(10, 8)).astype("uint8")
    order = np.concatenate([rng.permutation(10) for _ in range(103)])
    scores = to_numpy(adc_scores(tables, codes[order]))
    np.testing.assert_array_equal(scores, to_numpy(adc_scores(tables, codes))[:, order])


@few_examples
@given(st.integers(1, 7), st.integers(1, 6), seeds)
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


@few_examples
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.integers(1, 3))
def test_motion_images_show_the_mean_frames_and_changes_of_stretches(mask, num_images):
    mask = np.array(mask)
    clips = np.random.default_rng(num_images).integers(0, 256, (2, 6, 3, 2, 1)).astype("float32")
    frames = clips[0][mask].copy()
    clips[0][~mask] = np.nan
    changes = np.abs(np.diff(frames, axis=0, prepend=frames[:1]))
    means = reference.average_segments(np.concatenate([frames, changes], -1), 2 * num_images)
    expected = [np.concatenate(means[2 * n : 2 * n + 2], axis=-1) for n in range(num_images)]
    found = motion_images(clips, num_images, 2, np.stack([mask, np.ones(6, bool)]))
    assert_close(found[0], expected, 1e-3)
    assert_close(found[1], motion_images(clips[1:], num_images, 2)[0], 1e-3)
