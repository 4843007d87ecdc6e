"""Laws of balanced batches: each has as many items of each of its classes."""

import warnings
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.datasets import ImageArrays, TrainingBatches
from tfpqn.datasets.training.balanced_order import BalancedOrder

PER_CLASS = 2


@st.composite
def orders(draw):
    """Labels of classes of any size, of which enough fill a group, in any order."""
    per_batch = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(0, 11), min_size=per_batch, max_size=7))
    sizes[:per_batch] = [size + PER_CLASS for size in sizes[:per_batch]]
    numbers = draw(st.permutations(range(len(sizes))))
    labels = np.repeat(10 * np.array(numbers) - 7, sizes)
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    return labels, BalancedOrder(labels, per_batch * PER_CLASS, PER_CLASS)


@pytest.mark.filterwarnings("ignore:Batches of")
@given(orders(), st.integers(0, 2**32), st.integers(0, 2**40))
def test_batches_have_as_many_items_of_each_class_and_are_as_many_as_can_be(drawn, seed, epoch):
    """Batches of distinct classes can be filled while each of them gives one group at most."""
    labels, order = drawn
    rows = order.draw(seed, epoch)
    for batch in rows.reshape(order.num_batches, -1):
        _, counts = np.unique(labels[batch], return_counts=True)
        np.testing.assert_array_equal(counts, [PER_CLASS] * order.classes_per_batch)
    assert len(set(rows.tolist())) == len(rows), "an item comes twice"
    groups, more = np.unique(labels, return_counts=True)[1] // PER_CLASS, order.num_batches + 1
    assert np.minimum(groups, more).sum() < more * order.classes_per_batch


def test_training_batches_are_balanced_wherever_the_stream_begins(rng):
    images = ImageArrays(rng.integers(0, 9, (50, 4, 4, 3), np.uint8), np.arange(50) % 5)
    batches = TrainingBatches(images, 6, seed=1, samples_per_class=3)
    assert batches.steps_per_epoch == 7
    stream = list(islice(batches.arrays(), 16))
    for _, labels in stream:
        assert sorted(np.unique(labels, return_counts=True)[1]) == [3, 3]
    for one, other in zip(islice(batches.arrays(7), 9), stream[7:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("labels", "batch_size", "samples", "message"),
    [
        (np.arange(8) % 2, 4, 1, "at least 2 and divide the batch. Received: samples_per_class=1"),
        (np.arange(8) % 2, 4, 3, "divide the batch. Received: samples_per_class=3, batch_size=4"),
        (np.arange(8) % 2, 4, 4, "must leave room for a second class.*Received: 4, the whole"),
        (np.eye(8, dtype=int), 4, 2, r"one label each. Received: labels of shape \(8, 8\)"),
        (np.arange(8) % 2, 4, 2.0, "samples_per_class must be an integer. Received: 2.0"),
        (np.array([0, 0, 0, 1]), 4, 2, "needs 2 classes of so many items. Received: 1 of them"),
    ],
)
def test_what_makes_no_balanced_batch_is_refused(labels, batch_size, samples, message):
    with pytest.raises((TypeError, ValueError), match=message):
        BalancedOrder(labels, batch_size, samples)


def test_a_warning_says_that_most_items_are_left_out():
    sizes = [200] * 9 + [14]
    labels = np.repeat(np.arange(10), sizes)
    with pytest.warns(UserWarning, match=r"Batches of 10 classes use 140 of 1,814 items"):
        BalancedOrder(labels, 20, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BalancedOrder(labels, 18, 2)
