"""What the replicas of a `tf.distribute` strategy share in a training, and what is each one's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpqn.datasets import TrainingBatches

Batch = Any

# How a step fails whose collective operations another worker does not join.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


class Replicas:
    """The replicas of a strategy, which may lie in several processes, called workers.

    Attributes:
        strategy: The strategy; that of a network built without one has one replica.
        count: Number of replicas in all.
        is_chief: Whether this process writes what is written once.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.is_chief = bool(strategy.extended.should_checkpoint)
        self._first, self._num_local = 0, 1
        if self.count > 1:
            numbers = strategy.experimental_local_results(self._ask_each(_replica_number))
            self._first, self._num_local = int(numbers[0]), len(numbers)

    def open(self, batches: Any, step: int, num_steps: int) -> SharedBatches:
        """The batches from a step on, and to `num_steps` where they are `TrainingBatches`.

        Raises:
            ValueError: The replicas cannot share a batch equally.
        """
        if not isinstance(batches, TrainingBatches):
            dataset = batches(step)
            if self.count > 1:
                self._require_shares(tf.nest.flatten(dataset.element_spec)[0].shape[0])
            return SharedBatches(dataset, 0, self.count)
        self._require_shares(batches.batch_size)
        # A worker reads nothing but its own rows.
        part = self._first // self._num_local, self.count // self._num_local
        dataset = batches.dataset(step, num_steps - step, part)
        return SharedBatches(dataset, self._first, self._num_local)

    def require_same_step(self, step: int) -> None:
        """Refuse workers that are about to go on from different steps.

        Raises:
            ValueError: They are.
        """
        if self.count == self._num_local:
            return
        found = self.strategy.gather(self._ask_each(lambda: tf.constant([step])), axis=0)
        steps = found.numpy().tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                "All workers must see the same checkpoint_dir, on a file system that they share. "
                f"Received: checkpoints of the steps {steps}"
            )

    def gather_text(self, text: str) -> list[str]:
        """The texts of all workers, each of one line, once for each replica.

        Raises:
            ConnectionError: Another worker has ended.
        """
        if self.count == self._num_local:
            return [text]
        # Numbers, since strings cannot be gathered.
        line = np.frombuffer(f"{text}\n".encode(), np.uint8).astype(np.int32)
        with self.lost_ones_named():
            found = self.strategy.gather(self._ask_each(lambda: tf.constant(line)), axis=0)
        return found.numpy().astype(np.uint8).tobytes().decode().splitlines()

    def _ask_each(self, function: Callable[[], Any]) -> Any:
        # TensorFlow warns of replicas that run outside of a graph.
        return tf.function(lambda: self.strategy.run(function))()

    @contextlib.contextmanager
    def lost_ones_named(self) -> Iterator[None]:
        """What TensorFlow says of a step that another worker does not take any more, in a sentence.

        Raises:
            ConnectionError: A worker has ended before the training.
        """
        try:
            yield
        except LOST as error:
            if self.count == self._num_local:
                raise
            raise ConnectionError(
                "All workers must take part until the end: start all of them again, and they go on "
                f"from the last checkpoint. Received: {type(error).__name__}, one was lost"
            ) from error

    def _require_shares(self, batch_size: int | None) -> None:
        if batch_size is None or batch_size % self.count:
            raise ValueError(
                f"{self.count} replicas must be able to share each batch equally. Received: "
                f"batches of {batch_size or 'an unknown number of'} items"
            )


class SharedBatches(NamedTuple):
    """A stream of batches for some replicas.

    Attributes:
        dataset: Batches with the rows of these replicas, one replica after another.
        first: Number of the first replica.
        num_replicas: How many they are.
    """

    dataset: tf.data.Dataset
    first: int
    num_replicas: int

    def take_own(self, batch: Batch) -> Batch:
        """The rows of the replica that asks."""
        if self.num_replicas == 1:
            return batch
        place = _replica_number() - self.first

        def take(rows: tf.Tensor) -> tf.Tensor:
            size = rows.shape[0] // self.num_replicas
            own = rows[place * size : (place + 1) * size]
            return tf.ensure_shape(own, [size, *rows.shape[1:]])

        # On the host: a device is sent its own rows alone.
        with tf.device("CPU:0"):
            return tf.nest.map_structure(take, batch)


def _replica_number() -> Any:
    return tf.distribute.get_replica_context().replica_id_in_sync_group
