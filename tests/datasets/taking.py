"""Taking the first of an endless stream of training batches."""

import itertools
from collections.abc import Callable

from tfpqn.datasets import TrainingBatches

Take = Callable[..., list[tuple]]


def take_dataset(batches: TrainingBatches, count: int, first_step: int = 0) -> list[tuple]:
    return list(batches.dataset(first_step).take(count).as_numpy_iterator())


def take_arrays(batches: TrainingBatches, count: int, first_step: int = 0) -> list[tuple]:
    return list(itertools.islice(batches.arrays(first_step), count))
