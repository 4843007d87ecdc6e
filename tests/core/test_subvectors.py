"""Laws of cutting embeddings into subvectors and of bringing them to unit length."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, assert_same, few_examples, gradients, to_numpy
from tfpqn.ops import merge_subvectors, normalize_vectors, split_subvectors

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
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


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_normalising_keeps_shape_and_dtype(rng, dtype):
    vectors = rng.normal(size=(2, 3, 4)).astype(dtype)
    units = normalize_vectors(vectors)
    assert units.shape == (2, 3, 4)
    assert keras.backend.standardize_dtype(units.dtype) == dtype
    assert_close(units, reference.unit(vectors).astype(dtype), 1e-5 if dtype == "float32" else 2e-3)


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


def test_the_gradient_is_the_projection_off_the_direction_over_the_length(rng):
    vectors, weights = rng.normal(size=(2, 4, 3)).astype("float32")
    (gradient,) = gradients(lambda x: ops.sum(ops.multiply(normalize_vectors(x), weights)), vectors)
    for vector, weight, found in zip(vectors, weights, gradient, strict=True):
        length = np.linalg.norm(vector)
        projection = np.eye(3) - np.outer(vector, vector) / length**2
        assert_close(found, projection @ weight / length)
