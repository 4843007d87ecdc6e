"""Laws of average precision and recall: the mean over all orders of tied items is the truth."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tfpqn.metrics import average_precision, rank_items, recall_at_k

# At most seven items, hence at most 5040 orders; few scores, hence many ties.
rankings = st.lists(st.tuples(st.integers(-1, 2), st.booleans()), min_size=1, max_size=7)
cutoffs = st.integers(1, 9)


def as_arrays(ranking):
    scores, relevance = zip(*ranking, strict=True)
    return np.array(scores, "float32"), np.array(relevance)


@given(rankings)
def test_average_precision_is_the_mean_over_all_orders_of_ties(ranking):
    scores, relevance = as_arrays(ranking)
    (found,) = average_precision(scores[None], relevance[None])
    assert found == pytest.approx(reference.average_precision(scores, relevance), abs=1e-12)


@settings(max_examples=50)
@given(rankings, cutoffs)
def test_average_precision_within_a_cutoff_is_the_mean_over_all_orders_of_ties(ranking, cutoff):
    scores, relevance = as_arrays(ranking)
    (found,) = average_precision(scores[None], relevance[None], cutoff)
    expected = reference.average_precision(scores, relevance, cutoff)
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(rankings, cutoffs)
def test_recall_is_the_share_of_orders_with_a_hit(ranking, k):
    scores, relevance = as_arrays(ranking)
    (found,) = recall_at_k(scores[None], relevance[None], k)
    assert found == pytest.approx(reference.recall_at_k(scores, relevance, k), abs=1e-12)


@given(rankings, cutoffs, st.randoms())
def test_the_order_of_the_collection_does_not_matter(ranking, cutoff, random):
    shuffled = list(ranking)
    random.shuffle(shuffled)
    for function in (
        lambda *arrays: average_precision(*arrays),
        lambda *arrays: average_precision(*arrays, cutoff),
        lambda *arrays: recall_at_k(*arrays, cutoff),
    ):
        first, second = (
            function(*(array[None] for array in as_arrays(items))) for items in (ranking, shuffled)
        )
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cutoff", [1, 2, 3, 4, 5])
def test_a_cutoff_that_cuts_a_tie_group_by_hand(cutoff):
    """One item ahead, not relevant; then a tie of three with one relevant; then one relevant."""
    scores = np.array([[3.0, 2.0, 2.0, 2.0, 1.0]])
    relevance = np.array([[False, True, False, False, True]])
    found_at = [1 / 2, 1 / 3, 1 / 4]  # precision, should the relevant item stand at rank 2, 3, 4
    expected = {
        1: 0.0,
        2: found_at[0] / 3,
        3: (found_at[0] + found_at[1]) / 3,
        4: sum(found_at) / 3,
        5: sum((precision + 2 / 5) / 2 for precision in found_at) / 3,
    }[cutoff]
    assert average_precision(scores, relevance, cutoff) == pytest.approx(expected)
    hits = {1: 0.0, 2: 1 / 3, 3: 2 / 3, 4: 1.0, 5: 1.0}[cutoff]
    assert recall_at_k(scores, relevance, cutoff) == pytest.approx(hits)


def test_without_ties_it_is_the_textbook_figure():
    scores = np.array([[0.9, 0.1, 0.8, 0.4, 0.3]])
    relevance = np.array([[1, 1, 0, 0, 1]])
    assert average_precision(scores, relevance) == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)
    assert average_precision(scores, relevance, 4) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert average_precision(-scores, relevance) == pytest.approx((1 / 1 + 2 / 2 + 3 / 5) / 3)
    assert recall_at_k(scores, ~relevance.astype(bool), 1) == pytest.approx(0.0)
    assert recall_at_k(scores, ~relevance.astype(bool), 2) == pytest.approx(1.0)


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


def test_one_sorting_serves_every_figure(rng):
    scores, relevance = rng.integers(0, 3, size=(4, 6)).astype("float32"), rng.random((4, 6)) < 0.5
    rankings = rank_items(scores, relevance)
    for cutoff in (None, 1, 4):
        found = [ranking.average_precision(cutoff) for ranking in rankings]
        np.testing.assert_array_equal(found, average_precision(scores, relevance, cutoff))
    found = [ranking.recall(2) for ranking in rankings]
    np.testing.assert_array_equal(found, recall_at_k(scores, relevance, 2))


def test_a_ranking_states_its_groups():
    scores, relevance = np.array([[1.0, 3.0, 1.0, 2.0, 1.0]]), np.array([[1, 1, 0, 0, 1]])
    (ranking,) = rank_items(scores, relevance)
    assert {name: list(field) for name, field in ranking._asdict().items()} == {
        "before": [0, 1, 2],
        "size": [1, 1, 3],
        "relevant_before": [0, 1, 1],
        "relevant": [1, 0, 2],
    }


def test_queries_are_ranked_each_for_itself(rng):
    scores, relevance = rng.integers(0, 3, size=(4, 6)).astype("float32"), rng.random((4, 6)) < 0.5
    for cutoff in (None, 3):
        found = average_precision(scores, relevance, cutoff)
        assert found.shape == (4,)
        assert found.dtype == np.float64
        expected = [
            reference.average_precision(*row, cutoff) for row in zip(scores, relevance, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    expected = [reference.recall_at_k(*row, 2) for row in zip(scores, relevance, strict=True)]
    np.testing.assert_allclose(recall_at_k(scores, relevance, 2), expected, rtol=1e-12)


def test_a_cutoff_at_or_beyond_the_end_is_the_full_ranking(rng):
    scores, relevance = rng.integers(0, 3, size=(4, 6)).astype("float32"), rng.random((4, 6)) < 0.5
    full = average_precision(scores, relevance)
    for cutoff in (6, 7, 10**9):
        np.testing.assert_array_equal(average_precision(scores, relevance, cutoff), full)
    np.testing.assert_array_equal(recall_at_k(scores, relevance, 10**9), relevance.any(axis=1))


def test_nothing_relevant_and_nothing_at_all_give_zero():
    for scores in (np.zeros((2, 3)), np.zeros((2, 0))):
        nothing = np.zeros(scores.shape, bool)
        np.testing.assert_array_equal(average_precision(scores, nothing), [0.0, 0.0])
        np.testing.assert_array_equal(average_precision(scores, nothing, 2), [0.0, 0.0])
        np.testing.assert_array_equal(recall_at_k(scores, nothing, 2), [0.0, 0.0])
    assert average_precision(np.zeros((0, 3)), np.zeros((0, 3), bool)).shape == (0,)


def test_infinite_scores_have_a_place_in_the_ranking():
    scores, relevance = np.array([[-np.inf, 1.0, np.inf, -np.inf]]), np.array([[0, 0, 1, 1]])
    expected = reference.average_precision(scores[0], relevance[0])
    assert average_precision(scores, relevance) == pytest.approx(expected)


@pytest.mark.parametrize("function", [average_precision, recall_at_k])
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
