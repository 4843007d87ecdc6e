"""What a training ends with, to compare one that was stopped with one that was not."""

from typing import Any, NamedTuple

import numpy as np

from tests.training.tiny import arrays_of, assert_bit_equal


class Outcome(NamedTuple):
    """All that must be the same in the end."""

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    history: list[dict[str, float]]


def outcome_of(network: Any, history: list[dict[str, float]]) -> Outcome:
    optimizer = network.optimizer.variables
    return Outcome(arrays_of(network.variables), arrays_of(optimizer), without_times(history))


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: epoch[name] for name in epoch if name != "seconds"} for epoch in history]


def assert_same_outcome(first: Outcome, second: Outcome) -> None:
    assert first.history == second.history
    assert_bit_equal(first.weights, second.weights)
    assert_bit_equal(first.optimizer, second.optimizer)
