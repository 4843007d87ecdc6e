"""Laws of relevance: equal labels, or at least one shared label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.backend import assert_same, to_numpy
from tfpqn.ops import label_relevance, number_labels

labels = st.lists(st.integers(-3, 3), min_size=4, max_size=4)


@given(labels, labels)
def test_integer_labels_are_relevant_when_equal(rows, columns):
    expected = [[row == column for column in columns] for row in rows]
    rows, columns = np.array(rows), np.array(columns)
    relevance = to_numpy(label_relevance(rows, columns))
    assert relevance.dtype == bool
    np.testing.assert_array_equal(relevance, expected)
    assert_same(label_relevance(rows[:, None], columns[:, None]), expected)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "int32", "bool", "float32"]))
def test_multi_hot_labels_are_relevant_when_one_is_shared(seed, dtype):
    rng = np.random.default_rng(seed)
    rows, columns = (rng.random((n, 4)) < 0.4 for n in (3, 5))
    expected = [[any(row & column) for column in columns] for row in rows]
    relevance = to_numpy(label_relevance(rows.astype(dtype), columns.astype(dtype)))
    np.testing.assert_array_equal(relevance, expected)


@pytest.mark.parametrize(
    "ids",
    [
        2**40 + np.arange(3),
        2**32 * np.arange(1, 4),
        np.array([-(2**63), 0, 2**63 - 1]),
        2**63 + 2**32 * np.arange(3, dtype="uint64"),
        2.0**24 + np.arange(3),
        2**24 + np.arange(3, dtype="int32"),
    ],
    ids=["2**40", "multiples of 2**32", "limits", "uint64", "floats", "int32"],
)
def test_labels_beyond_a_backends_numbers_stay_distinct(ids):
    """JAX cuts integers to 32 bits, and as float32 ids beyond 2**24 merge."""
    columns = np.concatenate([ids[1:], ids])
    expected = np.equal.outer(ids, columns)
    assert_same(label_relevance(ids, columns), expected)
    assert_same(label_relevance(ids[:, None], columns[:, None]), expected)


def test_signed_and_unsigned_labels_are_compared_whole():
    rows, columns = 2**62 + np.arange(3), 2**62 + np.arange(1, 5, dtype="uint64")
    expected = np.equal.outer(rows, columns.astype("int64"))
    assert_same(label_relevance(rows, columns), expected)
    assert_same(label_relevance(columns[:, None], rows[:, None]), expected.T)
    assert_same(label_relevance(-rows, columns), np.zeros((3, 4), bool))
    multi_hot = np.array([[1, 2], [0, 3]])
    assert_same(label_relevance(multi_hot, multi_hot[1:].astype("uint64")), [[True], [True]])


def test_names_are_refused_with_the_way_to_number_them():
    with pytest.raises(ValueError, match="numpy.unique.*Received: labels of dtype <U3"):
        label_relevance(np.array(["ant", "bee"]), np.array(["ant", "bee"]))


def test_numbers_with_a_fraction_and_no_numbers_are_no_labels():
    for labels in (np.array([0.5, 1.0]), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError, match="whole numbers.*Received: numbers with a fraction"):
            number_labels(labels)
    np.testing.assert_array_equal(number_labels(np.array([3.0, 4.0])), [3, 4])


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((), ()), ((2, 2, 2), (2, 2, 2)), ((3,), (3, 4)), ((3, 2), (3, 4)), ((3, 4), (3, 1))],
)
def test_labels_of_other_or_different_shapes_are_refused(rows, columns):
    message = r"integers \[batch\] or multi-hot .* alike on both sides.*Received: shapes"
    with pytest.raises(ValueError, match=message):
        label_relevance(np.zeros(rows, int), np.zeros(columns, int))
