"""Laws of average precision and recall: the mean over all orders of tied items is the truth."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tfpqn.metrics import average_precision, ndcg, recall_at_k

# At most seven items, hence at most 5040 orders; few scores, hence many ties.
rankings = st.lists(st.tuples(st.integers(-1, 2), st.booleans()), min_size=1, max_size=7)
cutoffs = st.integers(1, 9)


def as_arrays(ranking):
    scores, relevance = zip(*ranking, strict=True)
    return np.array(scores, "float32"), np.array(relevance)


def each_for_itself(scores, relevance):
    """Two queries that rank the same items otherwise."""
    return [(scores, relevance), (-scores, ~relevance)]


@given(rankings, st.none() | cutoffs)
def test_average_precision_is_the_mean_over_all_orders_of_ties(ranking, cutoff):
    rows = each_for_itself(*as_arrays(ranking))
    found = average_precision(*zip(*rows, strict=True), cutoff)
    expected = [reference.average_precision(*row, cutoff) for row in rows]
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(rankings, cutoffs)
def test_recall_is_the_share_of_orders_with_a_hit(ranking, k):
    rows = each_for_itself(*as_arrays(ranking))
    found = recall_at_k(*zip(*rows, strict=True), k)
    expected = [reference.recall_at_k(*row, k) for row in rows]
    assert found == pytest.approx(expected, abs=1e-12)


def test_when_all_items_tie_it_is_what_chance_gives(rng):
    """Means over random orders, of a group as large as short codes make them."""
    relevance = np.arange(400) < 40
    tied = np.zeros((1, 400))
    orders = [rng.permutation(400) for _ in range(2000)]
    for cutoff in (None, 30):
        by_chance = [
            average_precision(-np.argsort(order)[None], relevance[None], cutoff) for order in orders
        ]
        found = average_precision(tied, relevance[None], cutoff)
        assert found == pytest.approx(np.mean(by_chance), abs=4 * np.std(by_chance) / 2000**0.5)
    assert recall_at_k(tied, relevance[None], 1) == pytest.approx(0.1)


@pytest.mark.parametrize(("items", "relevant", "k"), [(4096, 7, 100), (50_000, 3, 20_000)])
def test_recall_of_large_ties_is_the_exact_chance(items, relevant, k):
    scores, relevance = np.zeros((1, items)), np.arange(items) < relevant
    misses = Fraction(math.comb(items - relevant, k), math.comb(items, k))
    (found,) = recall_at_k(scores, relevance[None], k)
    assert found == pytest.approx(float(1 - misses), rel=1e-9)


def test_nothing_relevant_and_nothing_at_all_give_zero():
    for scores, measure in itertools.product(
        (np.zeros((2, 3)), np.zeros((2, 0))), (average_precision, recall_at_k, ndcg)
    ):
        np.testing.assert_array_equal(measure(scores, np.zeros(scores.shape), 2), [0.0, 0.0])
    assert average_precision(np.zeros((0, 3)), np.zeros((0, 3), bool)).shape == (0,)


@pytest.mark.parametrize("function", [average_precision, recall_at_k, ndcg])
def test_bad_input_is_refused(function):
    relevance = np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match="scores must not be NaN"):
        function(np.full((2, 3), np.nan), relevance, 1)
    with pytest.raises(ValueError, match=r"\[queries, items\]. Received: \(2, 4\) and \(2, 3\)"):
        function(np.zeros((2, 4)), relevance, 1)
    with pytest.raises(ValueError, match=r"\[queries, items\]. Received: \(3,\) and \(3,\)"):
        function(np.zeros(3), relevance[0], 1)
    with pytest.raises(ValueError, match="must be at least 1. Received: 0"):
        function(np.zeros((2, 3)), relevance, 0)
