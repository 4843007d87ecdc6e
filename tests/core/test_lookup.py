"""Laws of lookup tables and of asymmetric distance computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.core.backend import assert_close, few_examples, to_numpy
from tfpqn.ops import adc_scores, code_dtype

seeds = st.integers(0, 2**32 - 1)


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
