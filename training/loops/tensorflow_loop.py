"""Training step by step in TensorFlow: the same loss and metrics as `network.fit`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import rich.progress
import tensorflow as tf

from tfpqn.datasets import TrainingBatches
from tfpqn.models.replicated_model import synchronized_normalization

from .checkpoint import Checkpoint, Schedule
from .progress import progress_bar, report_epoch, require_finite
from .replicas import Replicas, SharedBatches

Batches = TrainingBatches | Callable[[int], tf.data.Dataset]
Logs = dict[str, float]


def train_by_steps(network: keras.Model, batches: Batches, schedule: Schedule) -> list[Logs]:
    """Train with `tf.GradientTape`, with checkpoints between the steps too; see `fit`."""
    replicas = Replicas(network.distribute_strategy)
    num_steps = schedule.epochs * schedule.steps_per_epoch
    with replicas.strategy.scope():
        _build(network, replicas.open(batches, 0, num_steps).dataset.element_spec)
        checkpoint = Checkpoint(
            network, schedule.checkpoint_dir, within_epochs=True, writes=replicas.is_chief
        )
    # Before any restores: where metrics are given values, all take part.
    replicas.require_same_step(checkpoint.read_step())
    step, history = checkpoint.restore()
    train_step = _make_step(network, replicas, replicas.open(batches, step, num_steps))
    epoch_logs = _EpochLogs()
    hooks = keras.callbacks.CallbackList([*schedule.callbacks, epoch_logs], model=network)
    network.stop_training = False
    hooks.on_train_begin()
    with (
        progress_bar(schedule.progress and replicas.is_chief) as bar,
        _summary_writer(schedule.log_dir if replicas.is_chief else None) as writer,
        synchronized_normalization(network),
        replicas.lost_ones_named(),
    ):
        loop = _Loop(network, schedule, checkpoint, train_step, hooks, bar)
        while step < num_steps and not network.stop_training:
            started = time.monotonic()
            step = loop.train_epoch(step, history)
            seconds = time.monotonic() - started
            summary = {"epoch": step // schedule.steps_per_epoch, **epoch_logs.last}
            summary["seconds"] = seconds
            _write_scalars(writer, summary, step)
            history.append(summary)
            checkpoint.save(step, history)
            report_epoch(bar, summary, schedule.epochs)
    hooks.on_train_end()
    return history


class _Loop(NamedTuple):
    """What the steps of each epoch need."""

    network: keras.Model
    schedule: Schedule
    checkpoint: Checkpoint
    train_step: Callable[[], dict[str, tf.Tensor]]
    hooks: keras.callbacks.CallbackList
    bar: rich.progress.Progress

    def train_epoch(self, step: int, history: list[Logs]) -> int:
        """Take the steps of an epoch from `step` on; returns the first step of the next."""
        steps, every = self.schedule.steps_per_epoch, self.schedule.checkpoint_every
        epoch, first = divmod(step, steps)
        if not first:
            self.network.reset_metrics()
        self.hooks.on_epoch_begin(epoch)
        title = f"epoch {epoch + 1}/{self.schedule.epochs}"
        task = self.bar.add_task(title, total=steps, completed=first)
        for position in range(first, steps):
            # An epoch's last step is checkpointed after the callbacks have had it.
            if every and position > first and position % every == 0:
                self.checkpoint.save(epoch * steps + position, history)
            self.hooks.on_train_batch_begin(position)
            logs = self.train_step()
            self.hooks.on_train_batch_end(position, logs)
            loss = float(logs["loss"])
            # Before the next checkpoint: it must hold nothing that a restart cannot go on from.
            require_finite(loss, title)
            description = f"{title}  loss {loss:.4f}"
            self.bar.update(task, completed=position + 1, description=description)
        self.hooks.on_epoch_end(epoch, _summarize(self.network, logs))
        return (epoch + 1) * steps


class _EpochLogs(keras.callbacks.Callback):
    """Keeps an epoch's logs with what the callbacks before it have added to them."""

    last: Logs

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.last = {name: float(value) for name, value in (logs or {}).items()}


def _make_step(
    network: keras.Model, replicas: Replicas, batches: SharedBatches
) -> Callable[[], dict[str, tf.Tensor]]:
    """What takes the next batch, trains on it, and gives the metrics of the epoch so far."""
    stream = iter(batches.dataset)

    def train_replica(batch: tuple[tf.Tensor, ...]) -> None:
        _train_step(network, batches.take_own(batch), replicas.count)

    @tf.function
    def train_step() -> dict[str, tf.Tensor]:
        replicas.strategy.run(train_replica, args=(next(stream),))
        return network.get_metrics_result()

    return train_step


def _train_step(network: keras.Model, batch: tuple[tf.Tensor, ...], num_replicas: int) -> None:
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = network.compute_loss(images, labels, outputs, weights, training=True)
        scaled_loss = network.optimizer.scale_loss(loss)
    variables = [variable.value for variable in network.trainable_variables]
    network.optimizer.apply(tape.gradient(scaled_loss, variables), network.trainable_variables)
    # A replica's loss is its share in the sum over all.
    _loss_tracker(network).update_state(loss * num_replicas, sample_weight=tf.shape(images)[0])
    network.compute_metrics(images, labels, outputs, weights)


def _loss_tracker(network: keras.Model) -> Any:
    """The mean that Keras keeps of the loss."""
    return next(metric for metric in network.metrics if metric.name == "loss")


def _summarize(network: keras.Model, logs: dict[str, tf.Tensor]) -> Logs:
    summary = {name: float(value) for name, value in logs.items()}
    rate = float(keras.ops.convert_to_numpy(network.optimizer.learning_rate))
    return {**summary, "learning_rate": rate}


@contextlib.contextmanager
def _summary_writer(log_dir: str | Path | None) -> Iterator[Any]:
    writer = tf.summary.create_file_writer(str(log_dir)) if log_dir else None
    try:
        yield writer or tf.summary.create_noop_writer()
    finally:
        if writer:
            writer.close()


def _write_scalars(writer: Any, summary: Logs, step: int) -> None:
    with writer.as_default(step=step):
        for name, value in summary.items():
            if name != "epoch":
                tf.summary.scalar(f"train/{name}", value)
    writer.flush()


def _build(network: keras.Model, batch_spec: Any) -> None:
    """Create all variables before the checkpoint is read: network, optimizer, metrics."""
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch_spec)

    @tf.function
    def trace(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None) -> None:
        outputs = network(images, training=False)
        network.compute_loss(images, labels, outputs, weights, training=False)
        network.compute_metrics(images, labels, outputs, weights)

    # Traced, not run: building must not count in the metrics, of which a scope of several replicas
    # lets only a replica count.
    with keras.StatelessScope():
        trace.get_concrete_function(images, labels, weights)
