"""From a request to its answer: what gRPC and REST have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ..interface.signatures import Arrays
from ..model.batching_parameters import BatchingParameters
from .batching import Batcher
from .model_version import ModelVersion
from .versions import ModelSpec, ModelVersions

Result = TypeVar("Result")


class Predictor:
    """Runs checked requests in threads, merged or alone."""

    def __init__(
        self,
        versions: ModelVersions,
        batching: BatchingParameters | None,
        max_message_bytes: int,
    ) -> None:
        self.versions = versions
        self.max_message_bytes = max_message_bytes
        num_threads = max(os.cpu_count() or 1, batching.num_batch_threads if batching else 1)
        # TensorFlow frees the interpreter while it computes.
        self._threads = ThreadPoolExecutor(num_threads, "tfpqn-run")
        self._batcher = Batcher(batching, self.run_in_thread) if batching else None

    @contextmanager
    def using(self, spec: ModelSpec) -> Iterator[ModelVersion]:
        """Hold the version that a request asks for, so that it stays loaded in the block."""
        version = self.versions.find(spec)
        with version.in_use():
            yield version

    async def predict(self, version: ModelVersion, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a checked request on a version that is held; UNAVAILABLE if too many wait."""
        if self._batcher and version.has_batch_axis(signature_name):
            rows = len(next(iter(arrays.values())))
            if rows <= self._batcher.parameters.max_batch_size:
                return await self._batcher.run(version, signature_name, arrays, rows)
        return await self.run_in_thread(version, lambda: version.run(signature_name, arrays))

    async def run_in_thread(self, version: ModelVersion, call: Callable[[], Result]) -> Result:
        """Run a blocking call; the version stays loaded until it is through, heard or not."""

        async def run() -> Result:
            with version.in_use():
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)

        return await asyncio.shield(run())

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()
