"""Laws of soft and hard assignment, and of codes."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import assert_close, few_examples, gradients, to_numpy
from tfpqn.ops import (
    assign_hard,
    assign_soft,
    code_dtype,
    decode_codes,
    rank_by_distance,
    reconstruct_soft,
    straight_through,
)


def draw_units(rng, *shape):
    return reference.unit(rng.normal(size=shape)).astype("float32")


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 20.0))
def test_soft_assignment_is_the_distance_form_of_the_paper(seed, alpha):
    rng = np.random.default_rng(seed)
    subvectors, codebook = draw_units(rng, 3, 4), draw_units(rng, 7, 4)
    weights = to_numpy(assign_soft(subvectors @ codebook.T, alpha))
    assert_close(weights.sum(axis=-1), np.ones(3))
    expected = [reference.assign_soft(subvector, codebook, alpha) for subvector in subvectors]
    assert_close(weights, np.array(expected))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_the_factor_before_the_inner_product_is_twice_alpha(alpha):
    weights = to_numpy(assign_soft(np.array([[1.0, 0.0]], "float32"), alpha))
    assert_close(weights[0, 0] / weights[0, 1], np.exp(2.0 * alpha))


def test_soft_assignment_grows_hard_with_alpha(rng):
    similarities = rng.uniform(-1.0, 1.0, size=(20, 6)).astype("float32")
    chosen = np.eye(6)[similarities.argmax(axis=-1)]
    gaps = [np.abs(to_numpy(assign_soft(similarities, a)) - chosen).max() for a in (1, 10, 1e5)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-6


def test_soft_assignment_and_its_gradient_stay_finite_at_extreme_alpha(rng):
    similarities = rng.uniform(-1.0, 1.0, size=(4, 6)).astype("float32")
    weights = rng.normal(size=(4, 6)).astype("float32")
    for alpha in (1e-8, 1e8):
        assert np.isfinite(to_numpy(assign_soft(similarities, alpha))).all()
        (gradient,) = gradients(
            lambda x, alpha=alpha: ops.sum(ops.multiply(weights, assign_soft(x, alpha))),
            similarities,
        )
        assert np.isfinite(gradient).all()


def test_hard_assignment_is_the_nearest_codeword(rng):
    subvectors, codebook = draw_units(rng, 20, 4), draw_units(rng, 9, 4)
    codes = assign_hard(subvectors @ codebook.T)
    assert keras.backend.standardize_dtype(codes.dtype) == "int32"
    expected = [reference.assign_hard(subvector, codebook) for subvector in subvectors]
    np.testing.assert_array_equal(to_numpy(codes), expected)


def test_of_equally_near_codewords_the_first_is_chosen():
    similarities = np.array([[0.5, 0.9, 0.9], [0.0, 0.0, 0.0], [-1.0, -1.0, 1.0]], "float32")
    np.testing.assert_array_equal(to_numpy(assign_hard(similarities)), [1, 0, 2])


def test_soft_reconstruction_is_the_weighted_sum_of_codewords(rng):
    assignments = rng.dirichlet(np.ones(5), size=(3, 2)).astype("float32")
    codebooks = draw_units(rng, 2, 5, 4)
    expected = np.zeros((3, 2, 4))
    for b, m, k in np.ndindex(3, 2, 5):
        expected[b, m] += assignments[b, m, k] * codebooks[m, k]
    assert_close(reconstruct_soft(assignments, codebooks), expected)


def test_soft_reconstruction_is_not_normalised_again():
    codebooks = np.array([[[1.0, 0.0], [-1.0, 0.0]]], "float32")
    assert_close(reconstruct_soft(np.full((1, 1, 2), 0.5, "float32"), codebooks), [[[0.0, 0.0]]])


def test_one_hot_assignments_reconstruct_what_their_codes_decode_to(rng):
    codebooks = draw_units(rng, 2, 5, 4)
    codes = rng.integers(0, 5, size=(6, 2))
    soft = reconstruct_soft(np.eye(5, dtype="float32")[codes], codebooks)
    np.testing.assert_array_equal(to_numpy(soft), to_numpy(decode_codes(codes, codebooks)))


def test_the_gradient_by_the_subvector_is_the_spread_of_the_codewords(rng):
    """dL/dx = 2 alpha Cov_a(c) g, with Cov_a(c) the codewords' covariance under the weights."""
    alpha = 3.0
    (x,), codebook, (g,) = (draw_units(rng, n, 4) for n in (1, 6, 1))

    def inner_product(x):
        assignments = assign_soft(ops.matmul(x, codebook.T), alpha)[None]
        return ops.sum(ops.multiply(reconstruct_soft(assignments, codebook[None]), g))

    (gradient,) = gradients(inner_product, x[None])
    weights = reference.assign_soft(x, codebook, alpha)
    mean = weights @ codebook
    covariance = (codebook.T * weights) @ codebook - np.outer(mean, mean)
    assert_close(gradient[0], 2 * alpha * covariance @ g)


def similarities_of(subvectors, codebooks):
    return np.einsum("bmd,mkd->bmk", subvectors, codebooks).astype("float32")


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 20.0))
def test_codewords_of_any_length_are_ranked_by_their_distance(seed, alpha):
    rng = np.random.default_rng(seed)
    subvectors = rng.normal(size=(3, 2, 4)).astype("float32")
    codebooks = rng.normal(size=(2, 5, 4)) * rng.uniform(0.0, 2.0, size=(2, 5, 1))
    codebooks = codebooks.astype("float32")
    ranks = to_numpy(rank_by_distance(similarities_of(subvectors, codebooks), codebooks))
    weights = to_numpy(assign_soft(ranks, alpha))
    for row, m in np.ndindex(3, 2):
        distances = reference.squared_distances(subvectors[row, m], codebooks[m])
        # Minus half the squared distance, up to what all codewords have in common.
        gaps = ranks[row, m] + 0.5 * distances
        assert_close(gaps, np.full(5, gaps.mean()), 1e-4)
        expected = reference.assign_soft(subvectors[row, m].astype("float64"), codebooks[m], alpha)
        assert_close(weights[row, m], expected, 1e-3)


def test_by_distance_the_nearest_codeword_is_chosen_and_not_the_longest(rng):
    subvectors = rng.normal(size=(20, 2, 3)).astype("float32")
    codebooks = rng.normal(size=(2, 8, 3)) * rng.uniform(0.1, 5.0, size=(2, 8, 1))
    codebooks = codebooks.astype("float32")
    similarities = similarities_of(subvectors, codebooks)
    codes = to_numpy(assign_hard(rank_by_distance(similarities, codebooks)))
    for row, m in np.ndindex(20, 2):
        assert codes[row, m] == reference.assign_hard(subvectors[row, m], codebooks[m])
    assert (codes != to_numpy(assign_hard(similarities))).any()


def test_between_unit_vectors_both_ways_to_rank_are_one(rng):
    codebooks = draw_units(rng, 2, 8, 3)
    similarities = similarities_of(draw_units(rng, 20, 2, 3), codebooks)
    assert_close(rank_by_distance(similarities, codebooks), similarities - 0.5)


def test_straight_through_has_the_value_of_hard_to_the_last_bit(rng):
    hard, soft = (rng.normal(size=(50, 7)).astype("float32") for _ in range(2))
    for factor in (1e-6, 1.0, 1e6):
        value = straight_through(ops.convert_to_tensor(hard), ops.convert_to_tensor(factor * soft))
        np.testing.assert_array_equal(to_numpy(value), hard)


def test_straight_through_has_the_gradient_of_soft(rng):
    hard, soft, weights = (rng.normal(size=(3, 4)).astype("float32") for _ in range(3))
    by_hard, by_soft = gradients(
        lambda hard, soft: ops.sum(ops.multiply(weights, ops.square(straight_through(hard, soft)))),
        hard,
        soft,
    )
    np.testing.assert_array_equal(by_hard, 0.0)
    # A later step sees the hard value, and so does its derivative.
    assert_close(by_soft, 2.0 * weights * hard)


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [
        (1, "uint8"),
        (2, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (4096, "uint16"),
        (65536, "uint16"),
        (65537, "int32"),
    ],
)
def test_the_dtype_of_codes_is_the_smallest_that_fits(num_codewords, dtype):
    assert code_dtype(num_codewords) == dtype
    assert np.iinfo(dtype).max >= num_codewords - 1


@few_examples
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from(["uint8", "uint16", "int32"]))
def test_decoding_looks_up_each_position_in_its_own_codebook(num_subspaces, batch, dtype):
    rng = np.random.default_rng(num_subspaces * batch)
    codebooks = rng.normal(size=(num_subspaces, 5, 3)).astype("float32")
    codes = rng.integers(0, 5, size=(batch, num_subspaces)).astype(dtype)
    expected = [[codebooks[m, k] for m, k in enumerate(code)] for code in codes]
    np.testing.assert_array_equal(to_numpy(decode_codes(codes, codebooks)), expected)


def test_codes_beyond_the_reach_of_their_dtype_decode_rightly():
    """255 + offset overflows uint8, and 65535 + offset overflows uint16."""
    for num_codewords, dtype in ((256, "uint8"), (65536, "uint16")):
        codebooks = np.arange(3 * num_codewords, dtype="float32").reshape(3, num_codewords, 1)
        codes = np.full((1, 3), num_codewords - 1, dtype)
        expected = [[[num_codewords - 1], [2 * num_codewords - 1], [3 * num_codewords - 1]]]
        np.testing.assert_array_equal(to_numpy(decode_codes(codes, codebooks)), expected)
