"""Laws of soft and hard assignment, and of codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.core.backend import assert_close, to_numpy
from tfpqn.ops import (
    assign_hard,
    assign_soft,
    build_lookup_tables,
    code_dtype,
    decode_codes,
    rank_by_distance,
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


def test_of_equally_near_codewords_the_first_is_chosen():
    similarities = np.array([[0.5, 0.9, 0.9], [0.0, 0.0, 0.0], [-1.0, -1.0, 1.0]], "float32")
    np.testing.assert_array_equal(to_numpy(assign_hard(similarities)), [1, 0, 2])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 20.0))
def test_codewords_of_any_length_are_ranked_by_their_distance(seed, alpha):
    rng = np.random.default_rng(seed)
    subvectors = rng.normal(size=(3, 2, 4)).astype("float32")
    codebooks = rng.normal(size=(2, 5, 4)) * rng.uniform(0.0, 2.0, size=(2, 5, 1))
    codebooks = codebooks.astype("float32")
    ranks = to_numpy(rank_by_distance(build_lookup_tables(subvectors, codebooks), codebooks))
    weights = to_numpy(assign_soft(ranks, alpha))
    for row, m in np.ndindex(3, 2):
        distances = reference.squared_distances(subvectors[row, m], codebooks[m])
        # Minus half the squared distance, up to what all codewords have in common.
        gaps = ranks[row, m] + 0.5 * distances
        assert_close(gaps, np.full(5, gaps.mean()), 1e-4)
        expected = reference.assign_soft(subvectors[row, m].astype("float64"), codebooks[m], alpha)
        assert_close(weights[row, m], expected, 1e-3)


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [
        (1, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65536, "uint16"),
        (65537, "int32"),
    ],
)
def test_the_dtype_of_codes_is_the_smallest_that_fits(num_codewords, dtype):
    assert code_dtype(num_codewords) == dtype
    assert np.iinfo(dtype).max >= num_codewords - 1


def test_codes_beyond_the_reach_of_their_dtype_decode_rightly():
    """255 + offset overflows uint8, and 65535 + offset overflows uint16."""
    for num_codewords, dtype in ((256, "uint8"), (65536, "uint16")):
        codebooks = np.arange(3 * num_codewords, dtype="float32").reshape(3, num_codewords, 1)
        codes = np.full((1, 3), num_codewords - 1, dtype)
        expected = [[[num_codewords - 1], [2 * num_codewords - 1], [3 * num_codewords - 1]]]
        np.testing.assert_array_equal(to_numpy(decode_codes(codes, codebooks)), expected)
