"""Checkpoints of the custom loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from .array_checkpoint import ARRAYS_FILE, TENSORFLOW_FILE, refuse_checkpoint, write_history


class TrainingState:
    """Everything that a step reads and writes, and its place on disk.

    The variables of network, optimizer and metrics go into one checkpoint with the step and the
    history. `tf.train.CheckpointManager` writes the data first and then renames the file that names
    it, so a kill leaves the former checkpoint in force.
    """

    def __init__(self, network: Any, batch_spec: Any, checkpoint_dir: str | Path | None) -> None:
        self.history: list[dict[str, float]] = []
        self._network = network
        self._directory = Path(checkpoint_dir) if checkpoint_dir else None
        _build(network, batch_spec)
        if self._directory is None:
            return
        _refuse_damaged_state(self._directory)
        self._step = tf.Variable(0, dtype=tf.int64)
        self._history = tf.Variable("[]")
        variables = [
            *network.variables,
            *network.optimizer.variables,
            *network.metrics_variables,
        ]
        self._checkpoint = tf.train.Checkpoint(
            variables=[variable.value for variable in variables],
            step=self._step,
            history=self._history,
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self._directory), max_to_keep=2
        )

    def save(self, step: int) -> None:
        if self._directory is None:
            return
        self._step.assign(step)
        self._history.assign(json.dumps(self.history))
        self._manager.save(checkpoint_number=step)
        write_history(self._directory, self.history)

    def restore(self) -> int:
        """Load the last checkpoint, if any; return the step to go on from."""
        if self._directory is None:
            return 0
        refuse_checkpoint(self._directory, ARRAYS_FILE)
        if not self._manager.latest_checkpoint:
            return 0
        try:
            self._checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"The checkpoint in {str(self._directory)!r} must be of this network and "
                f"optimizer. Received one that does not fit: {str(error).splitlines()[0]}"
            ) from error
        self.history = json.loads(self._history.numpy().decode())
        # A kill between checkpoint and file left the file an epoch behind.
        write_history(self._directory, self.history)
        return int(self._step.numpy())


def _refuse_damaged_state(directory: Path) -> None:
    """TensorFlow would take a damaged file that names the last checkpoint for none at all."""
    path = directory / TENSORFLOW_FILE
    if not path.is_file():
        return
    try:
        state = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        state = None
    if state is None:
        raise ValueError(
            f"{str(path)!r} must name the last checkpoint, as training writes it; remove its "
            "folder to begin anew. Received: a damaged file"
        )


def _build(network: Any, batch_spec: Any) -> None:
    """Create all variables before the checkpoint is read: network, optimizer, metrics."""
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch_spec)

    @tf.function
    def trace(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None) -> None:
        outputs = network(images, training=False)
        network.compute_loss(images, labels, outputs, weights, training=False)
        network.compute_metrics(images, labels, outputs, weights)

    # Traced, not run: building must not count in the metrics.
    trace.get_concrete_function(images, labels, weights)
    if not network.optimizer.built:
        network.optimizer.build(network.trainable_variables)
