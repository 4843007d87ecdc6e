"""Dynamic batching: small requests that arrive together run as one.

The parameters are TensorFlow Serving's. A queue belongs to one signature of one version and to one
form of the inputs (all axes but the first), so that what is merged fits together; hence
`pad_variable_length_inputs` has nothing to do here. A batch is ready when it is full or when its
first request has waited for `batch_timeout_micros`; until a thread is free, it goes on filling.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..interface.signatures import Arrays
from ..model.batching_parameters import BatchingParameters
from .errors import ServingError
from .model_version import ModelVersion
from .runner import Runner

__all__ = ["Batcher", "run_merged"]

Key: TypeAlias = tuple[int, str, tuple[Any, ...]]
Answer: TypeAlias = "Arrays | Exception"

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


class _Task:
    """One request in a batch."""

    def __init__(self, arrays: Arrays, rows: int, future: asyncio.Future[Arrays]) -> None:
        self.arrays = arrays
        self.rows = rows
        self.future = future


class _Batch:
    """Requests that will run together."""

    def __init__(self, key: Key, version: ModelVersion, signature_name: str) -> None:
        self.key = key
        self.version = version
        self.signature_name = signature_name
        self.tasks: list[_Task] = []
        self.rows = 0
        self.is_ready = False
        self.timer: asyncio.TimerHandle | None = None

    def add(self, task: _Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows

    def discard(self, task: _Task) -> None:
        if task in self.tasks:
            self.tasks.remove(task)
            self.rows -= task.rows


class Batcher:
    """Merges requests; belongs to the event loop's thread.

    Args:
        parameters: How requests are merged.
        runner: Where batches run.
        on_batch: Called with the number of rows of each batch that runs.
    """

    def __init__(
        self, parameters: BatchingParameters, runner: Runner, on_batch: Callable[[int], None]
    ) -> None:
        self.parameters = parameters
        self._runner = runner
        self._on_batch = on_batch
        self._queues: dict[Key, deque[_Batch]] = {}
        self._ready: deque[_Batch] = deque()
        self._num_idle = parameters.num_batch_threads

    async def run(
        self, version: ModelVersion, signature_name: str, arrays: Arrays, rows: int
    ) -> Arrays:
        """Run a checked request of at most `max_batch_size` rows, merged with others.

        Raises:
            ServingError: UNAVAILABLE if too many batches wait already.
            StatusError: TensorFlow refused the input.
        """
        form = tuple((name, array.shape[1:]) for name, array in sorted(arrays.items()))
        key = (version.number, signature_name, form)
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        task = _Task(arrays, rows, future)
        batch = self._find_batch(key, version, signature_name, rows)
        batch.add(task)
        if batch.rows == self.parameters.max_batch_size:
            self._make_ready(batch)
        try:
            return await future
        except asyncio.CancelledError:
            batch.discard(task)
            raise

    def _find_batch(
        self, key: Key, version: ModelVersion, signature_name: str, rows: int
    ) -> _Batch:
        """The queue's last batch, or a new one if the request does not fit into that."""
        queue = self._queues.setdefault(key, deque())
        if queue and queue[-1].version is version:
            batch = queue[-1]
            if batch.rows + rows <= self.parameters.max_batch_size:
                return batch
            if len(queue) >= self.parameters.max_enqueued_batches:
                raise ServingError("UNAVAILABLE", QUEUE_FULL)
            self._make_ready(batch)
        batch = _Batch(key, version, signature_name)
        # Before a thread took the batch, its requests alone keep the version loaded.
        seconds = self.parameters.batch_timeout_micros / 1e6
        batch.timer = asyncio.get_running_loop().call_later(seconds, self._make_ready, batch)
        self._queues.setdefault(key, queue).append(batch)
        return batch

    def _make_ready(self, batch: _Batch) -> None:
        if batch.is_ready:
            return
        batch.is_ready = True
        if batch.timer is not None:
            batch.timer.cancel()
        self._ready.append(batch)
        self._start_batches()

    def _start_batches(self) -> None:
        while self._num_idle and self._ready:
            batch = self._ready.popleft()
            self._leave_queue(batch)
            batch.tasks = [task for task in batch.tasks if not task.future.done()]
            if batch.tasks:
                self._start(batch)

    def _leave_queue(self, batch: _Batch) -> None:
        queue = self._queues[batch.key]
        queue.remove(batch)
        if not queue:
            del self._queues[batch.key]

    def _start(self, batch: _Batch) -> None:
        self._num_idle -= 1
        tasks, version, name = tuple(batch.tasks), batch.version, batch.signature_name
        requests = [task.arrays for task in tasks]
        rows = [task.rows for task in tasks]
        sizes = self.parameters.allowed_batch_sizes
        self._on_batch(sum(rows))
        done = self._runner.submit(
            version,
            lambda: run_merged(lambda arrays: version.run(name, arrays), requests, rows, sizes),
        )
        done.add_done_callback(lambda done: self._finish(tasks, done))

    def _finish(self, tasks: Sequence[_Task], done: asyncio.Future[list[Answer]]) -> None:
        self._num_idle += 1
        failure = done.exception()
        answers = [failure] * len(tasks) if failure else done.result()
        for task, answer in zip(tasks, answers, strict=True):
            if task.future.done():
                continue
            if isinstance(answer, BaseException):
                task.future.set_exception(answer)
            else:
                task.future.set_result(answer)
        self._start_batches()


def run_merged(
    run: Callable[[Arrays], Arrays],
    requests: Sequence[Arrays],
    rows: Sequence[int],
    allowed_batch_sizes: Sequence[int] = (),
) -> list[Answer]:
    """Run requests as one batch; if that fails, each alone.

    Args:
        run: What runs the signature.
        requests: Arrays by input name, of one form.
        rows: Rows of each request.
        allowed_batch_sizes: Sizes to which the batch is padded with copies of its last row,
            ascending; any size if empty or if the batch is larger than all of them.

    Returns:
        For each request its outputs, or the exception that it caused.
    """
    total = sum(rows)
    size = next((size for size in allowed_batch_sizes if size >= total), total)
    try:
        outputs = run(_merge(requests, size - total))
        return _split(outputs, rows, size)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    pairs = zip(requests, rows, strict=True)
    return [run_merged(run, [one], [number], allowed_batch_sizes)[0] for one, number in pairs]


def _merge(requests: Sequence[Arrays], num_padding: int) -> Arrays:
    if len(requests) == 1 and not num_padding:
        return requests[0]
    merged = {}
    for name in requests[0]:
        parts = [arrays[name] for arrays in requests]
        if num_padding:
            parts.append(np.repeat(parts[-1][-1:], num_padding, axis=0))
        merged[name] = np.concatenate(parts)
    return merged


def _split(outputs: Arrays, rows: Sequence[int], size: int) -> list[Answer]:
    for name, output in outputs.items():
        if not output.ndim or len(output) != size:
            raise ServingError(
                "FAILED_PRECONDITION",
                f"the output {name} must have as many rows as the batch, {size}. "
                f"Received: shape {list(output.shape)}",
            )
    ends = np.cumsum(rows).tolist()
    return [
        {name: output[end - number : end] for name, output in outputs.items()}
        for end, number in zip(ends, rows, strict=True)
    ]
