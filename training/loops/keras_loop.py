"""Training by `network.fit`, on any Keras backend, with checkpoints at the epochs' ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import keras
import rich.progress

from tfpqn.datasets import TrainingBatches

from .checkpoint import Checkpoint, Schedule
from .progress import progress_bar, report_epoch, require_finite

Batches = TrainingBatches | Callable[[int], Any]
Logs = dict[str, float]


def train_by_epochs(network: keras.Model, batches: Batches, schedule: Schedule) -> list[Logs]:
    """Train by `network.fit`, with a checkpoint at each epoch's end; see `fit`."""
    if isinstance(batches, TrainingBatches):
        batches = batches.arrays
    if not network.built:
        images, *_ = next(iter(batches(0)))
        network(images)
    checkpoint = Checkpoint(network, schedule.checkpoint_dir)
    _, history = checkpoint.restore()
    first = len(history)
    if first >= schedule.epochs:
        return history
    stream = _stream(batches, first * schedule.steps_per_epoch)
    with progress_bar(schedule.progress) as bar, _closing(stream):
        # Last, so that it keeps what the other callbacks have done and found.
        record = _Record(history, checkpoint, bar)
        network.fit(
            stream,
            epochs=schedule.epochs,
            initial_epoch=first,
            steps_per_epoch=schedule.steps_per_epoch,
            callbacks=[*schedule.callbacks, record],
            shuffle=False,
            verbose=0,
        )
    return history


def _stream(batches: Callable[[int], Any], step: int) -> Generator[Any, None, None]:
    """The batches as a generator, which Keras takes and which can be closed."""
    yield from batches(step)


@contextlib.contextmanager
def _closing(stream: Generator[Any, None, None]) -> Iterator[None]:
    """Close the batches in the end, without hiding what ended the training."""
    try:
        yield
    finally:
        # A thread of Keras may still draw a batch; they are closed when it lets go of them.
        with contextlib.suppress(ValueError):
            stream.close()


class _Record(keras.callbacks.Callback):
    """Shows how far the training is, and keeps each epoch that ends."""

    # Keras may call it from another thread, and does not wait for a step to know its loss.
    async_safe = True

    def __init__(
        self, history: list[Logs], checkpoint: Checkpoint, bar: rich.progress.Progress
    ) -> None:
        super().__init__()
        self._history = history
        self._checkpoint = checkpoint
        self._bar = bar

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._title = f"epoch {epoch + 1}/{self.params['epochs']}"
        self._task = self._bar.add_task(self._title, total=self.params["steps"])
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {})["loss"]
        require_finite(loss, self._title)
        self._show(batch + 1, loss)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        summary = {name: float(value) for name, value in (logs or {}).items()}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = time.monotonic() - self._started
        self._history.append(
            {"epoch": epoch + 1, **summary, "learning_rate": rate, "seconds": seconds}
        )
        # The last step may still be on its way through the other thread.
        self._show(self.params["steps"], summary["loss"])
        self._checkpoint.save((epoch + 1) * self.params["steps"], self._history)
        report_epoch(self._bar, self._history[-1], self.params["epochs"])

    def _show(self, step: int, loss: float) -> None:
        description = f"{self._title}  loss {loss:.4f}"
        self._bar.update(self._task, completed=step, description=description)
