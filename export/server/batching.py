"""Dynamic batching: small requests that arrive together run as one.

The parameters are TensorFlow Serving's. Only requests for one signature of one version and of one
form (all axes but the first) are merged, and no batch is padded. A batch is ready when it is full
or when its first request has waited for `batch_timeout_micros`; until a thread is free, it goes on
filling.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..interface.batching_parameters import BatchingParameters
from ..interface.signatures import Arrays
from .model_version import ModelVersion
from .refusals import refusal

Answer: TypeAlias = "Arrays | Exception"

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


class _Request(NamedTuple):
    """One request in a batch."""

    arrays: Arrays
    rows: int
    answer: asyncio.Future[Arrays]


class _Batch:
    """Requests that will run together."""

    def __init__(self) -> None:
        self.requests: list[_Request] = []
        self.rows = 0
        self.is_full = asyncio.Event()


class Batcher:
    """Merges requests; belongs to the event loop's thread.

    Args:
        parameters: How requests are merged.
        run: Awaits a blocking call in a thread.
    """

    def __init__(self, parameters: BatchingParameters, run: Callable[..., Any]) -> None:
        self.parameters = parameters
        self._run = run
        # The batches that may still grow, and all that no thread has taken yet.
        self._open: dict[Any, _Batch] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._idle_threads = asyncio.Semaphore(parameters.num_batch_threads)

    async def run(self, version: ModelVersion, name: str, arrays: Arrays, rows: int) -> Arrays:
        """Run a checked request of at most `max_batch_size` rows, merged with others."""
        form = tuple((key, array.shape[1:]) for key, array in sorted(arrays.items()))
        batch = self._find_batch((version, name, form), rows)
        request = _Request(arrays, rows, asyncio.get_running_loop().create_future())
        batch.requests.append(request)
        batch.rows += rows
        if batch.rows == self.parameters.max_batch_size:
            batch.is_full.set()
        return await request.answer

    def _find_batch(self, key: Any, rows: int) -> _Batch:
        """The batch that grows, or a new one if the request does not fit into that."""
        batch = self._open.get(key)
        if batch and batch.rows + rows <= self.parameters.max_batch_size:
            return batch
        if len(self._waiting) >= self.parameters.max_enqueued_batches:
            raise refusal("UNAVAILABLE", QUEUE_FULL)
        if batch:
            batch.is_full.set()
        batch = self._open[key] = _Batch()
        self._waiting.add(asyncio.create_task(self._process(key, batch)))
        return batch

    async def _process(self, key: Any, batch: _Batch) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            seconds = self.parameters.batch_timeout_micros / 1e6
            await asyncio.wait_for(batch.is_full.wait(), seconds)
        async with self._idle_threads:
            self._waiting.discard(asyncio.current_task())
            if self._open.get(key) is batch:
                del self._open[key]
            await self._answer(key[0], key[1], batch.requests)

    async def _answer(self, version: ModelVersion, name: str, requests: list[_Request]) -> None:
        arrays, rows = [r.arrays for r in requests], [r.rows for r in requests]
        answers: Sequence[Answer] = await self._run(
            lambda: run_merged(lambda merged: version.run(name, merged), arrays, rows)
        )
        for request, answer in zip(requests, answers, strict=True):
            # Who has gone away, has cancelled it.
            if request.answer.done():
                continue
            if isinstance(answer, Exception):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)


def run_merged(
    run: Callable[[Arrays], Arrays], requests: Sequence[Arrays], rows: Sequence[int]
) -> list[Answer]:
    """Run requests of one form as one batch; if that fails, each alone: outputs or exceptions."""
    try:
        outputs = run(
            {name: np.concatenate([one[name] for one in requests]) for name in requests[0]}
        )
    except Exception as error:
        if len(requests) == 1:
            return [error]
        pairs = zip(requests, rows, strict=True)
        return [run_merged(run, [one], [number])[0] for one, number in pairs]
    ends = np.cumsum(rows).tolist()
    return [
        {name: output[end - number : end] for name, output in outputs.items()}
        for end, number in zip(ends, rows, strict=True)
    ]
