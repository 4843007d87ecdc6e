"""From a request to its answer: what gRPC and REST have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..interface.batching_parameters import BatchingParameters
from ..interface.signatures import Arrays
from .batching import Batcher
from .model_version import ModelVersion

Result = TypeVar("Result")


class Predictor:
    """Runs checked requests in threads, merged or alone."""

    def __init__(self, batching: BatchingParameters | None) -> None:
        num_threads = max(os.cpu_count() or 1, batching.num_batch_threads if batching else 1)
        # TensorFlow frees the interpreter while it computes.
        self._threads = ThreadPoolExecutor(num_threads, "tfpqn-run")
        self._batcher = Batcher(batching, self._run_in_thread) if batching else None

    async def predict(self, version: ModelVersion, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a checked request; UNAVAILABLE if too many wait."""
        if self._batcher and version.has_batch_axis(signature_name):
            rows = len(next(iter(arrays.values())))
            if rows <= self._batcher.parameters.max_batch_size:
                return await self._batcher.run(version, signature_name, arrays, rows)
        return await self._run_in_thread(lambda: version.run(signature_name, arrays))

    async def _run_in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()
