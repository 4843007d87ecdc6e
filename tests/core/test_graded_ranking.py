"""Laws of NDCG: the mean over all orders of tied items is the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.core.backend import assert_same
from tfpqn.metrics import ndcg, rank_gains
from tfpqn.ops import count_shared_labels, label_relevance

# At most six items, hence at most 720 orders; few scores, hence many ties.
rankings = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 3)), min_size=1, max_size=6)
cutoffs = st.none() | st.integers(1, 8)


def dcg(gains, cutoff=None):
    """Discounted cumulative gain of items in their order."""
    total = 0.0
    for rank, gain in enumerate(gains, start=1):
        if cutoff is None or rank <= cutoff:
            total += gain / math.log2(rank + 1)
    return total


def slow_ndcg(scores, gains, cutoff=None):
    """NDCG of one query, the mean over all orders of its tied items."""
    best = dcg(sorted(gains, reverse=True), cutoff)
    orders = list(reference.orders_of_ties(list(scores)))
    found = sum(dcg([gains[item] for item in order], cutoff) for order in orders) / len(orders)
    return found / best if best else 0.0


def slow_shares(query_labels, item_labels):
    """The share of each query's labels that each item has."""
    return [
        [
            sum(q and i for q, i in zip(query, item, strict=True)) / sum(query)
            for item in item_labels
        ]
        for query in query_labels
    ]


def as_arrays(ranking):
    scores, gains = zip(*ranking, strict=True)
    return np.array(scores, "float32"), np.array(gains)


@settings(max_examples=60)
@given(rankings, cutoffs)
def test_ndcg_is_the_mean_over_all_orders_of_ties(ranking, cutoff):
    scores, gains = as_arrays(ranking)
    (found,) = ndcg(scores[None], gains[None], cutoff)
    assert found == pytest.approx(slow_ndcg(scores, gains, cutoff), abs=1e-12)


def test_shared_labels_rank_as_their_share_of_the_querys_labels_does(rng):
    """The gain is |shared| / |labels of the query|."""
    query_labels = np.array([[1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    item_labels = (rng.random((6, 4)) < 0.5).astype(np.uint8)
    item_labels[0] = 0
    scores = rng.integers(0, 3, (3, 6)).astype("float32")
    shared = np.array(count_shared_labels(query_labels, item_labels))
    shares = slow_shares(query_labels, item_labels)
    for cutoff in (None, 2, 4):
        expected = [slow_ndcg(*row, cutoff) for row in zip(scores, shares, strict=True)]
        np.testing.assert_allclose(ndcg(scores, shared, cutoff), expected, rtol=1e-12)
        one_sort = [ranking.ndcg(cutoff) for ranking in rank_gains(scores, shared)]
        np.testing.assert_array_equal(one_sort, ndcg(scores, shared, cutoff))


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_gains_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"at least 0. Received: {wrong}"):
        ndcg(np.zeros((2, 3)), np.array([[0, 0, 0], [0, wrong, 1]]))


def test_shared_labels_are_counted_however_often_each_is(rng):
    rows, columns = 2**32 * rng.integers(0, 3, (4, 5)), rng.integers(0, 3, (6, 5))
    expected = [[sum((row > 0) & (column > 0)) for column in columns] for row in rows]
    assert_same(count_shared_labels(rows, columns), np.array(expected, "float32"))
    assert_same(label_relevance(rows, columns), np.array(expected) > 0)


def test_labels_that_are_no_rows_or_differ_in_width_share_nothing():
    with pytest.raises(
        ValueError, match=r"multi-hot \[batch, num_labels\]. Received: shape \(3,\)"
    ):
        count_shared_labels(np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ValueError, match="alike on both sides"):
        count_shared_labels(np.zeros((3, 2), int), np.zeros((3, 4), int))
