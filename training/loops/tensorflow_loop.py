"""Training step by step in TensorFlow: the same loss and metrics as `network.fit`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import rich.progress
import tensorflow as tf

from .checkpoint import Checkpoint, Schedule
from .progress import progress_bar, report_epoch, require_finite

Batches = Callable[[int], tf.data.Dataset]
Logs = dict[str, float]


def train_by_steps(network: Any, batches: Batches, schedule: Schedule) -> list[Logs]:
    """Train with `tf.GradientTape`, with checkpoints between the steps too; see `fit`."""
    _build(network, batches(0).element_spec)
    epochs, steps_per_epoch = schedule.epochs, schedule.steps_per_epoch
    every = schedule.checkpoint_every
    checkpoint = Checkpoint(network, schedule.checkpoint_dir, within_epochs=True)
    step, history = checkpoint.restore()
    stream = iter(batches(step))
    epoch_logs = _EpochLogs()
    hooks = keras.callbacks.CallbackList([*schedule.callbacks, epoch_logs], model=network)
    train_step = tf.function(lambda: _train_step(network, next(stream)))
    network.stop_training = False
    hooks.on_train_begin()
    with progress_bar(schedule.progress) as bar, _summary_writer(schedule.log_dir) as writer:
        while step < epochs * steps_per_epoch and not network.stop_training:
            epoch, first = divmod(step, steps_per_epoch)
            if not first:
                network.reset_metrics()
            started = time.monotonic()
            hooks.on_epoch_begin(epoch)
            title = f"epoch {epoch + 1}/{epochs}"
            for position in _track(bar, title, first, steps_per_epoch, network):
                # An epoch's last step is checkpointed below, after the callbacks have had it.
                if every and position > first and position % every == 0:
                    checkpoint.save(step, history)
                hooks.on_train_batch_begin(position)
                logs = train_step()
                hooks.on_train_batch_end(position, logs)
                step += 1
            hooks.on_epoch_end(epoch, _summarize(network, logs))
            seconds = time.monotonic() - started
            summary = {"epoch": epoch + 1, **epoch_logs.last, "seconds": seconds}
            _write_scalars(writer, summary, step)
            history.append(summary)
            checkpoint.save(step, history)
            report_epoch(bar, summary, epochs)
    hooks.on_train_end()
    return history


def _track(
    bar: rich.progress.Progress, title: str, first: int, steps: int, network: Any
) -> Iterator[int]:
    """Yield the positions of an epoch's steps from `first` on and show how far it is."""
    task = bar.add_task(title, total=steps, completed=first)
    loss_tracker = _loss_tracker(network)
    for position in range(first, steps):
        yield position
        loss = float(loss_tracker.result())
        # Before the next checkpoint: it must hold nothing that a restart cannot go on from.
        require_finite(loss, title)
        bar.update(task, completed=position + 1, description=f"{title}  loss {loss:.4f}")


class _EpochLogs(keras.callbacks.Callback):
    """Keeps an epoch's logs with what the callbacks before it have added to them."""

    last: Logs

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.last = dict(logs or {})


def _train_step(network: Any, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = network.compute_loss(images, labels, outputs, weights, training=True)
        scaled_loss = network.optimizer.scale_loss(loss)
    variables = [variable.value for variable in network.trainable_variables]
    network.optimizer.apply(tape.gradient(scaled_loss, variables), network.trainable_variables)
    _loss_tracker(network).update_state(loss, sample_weight=tf.shape(images)[0])
    return network.compute_metrics(images, labels, outputs, weights)


def _loss_tracker(network: Any) -> Any:
    """The mean that Keras keeps of the loss."""
    return next(metric for metric in network.metrics if metric.name == "loss")


def _summarize(network: Any, logs: dict[str, tf.Tensor]) -> Logs:
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
