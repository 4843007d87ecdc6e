"""From a request to its answer: what gRPC and REST have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from ..interface.signatures import Arrays
from ..model.batching_parameters import BatchingParameters
from .batching import Batcher
from .model_version import ModelVersion
from .refusals import bad_request, not_found
from .versions import ModelVersions

Result = TypeVar("Result")


class ModelSpec(NamedTuple):
    """What a request asks of: a model, and perhaps one version of it.

    Attributes:
        name: The model's name.
        number: Number of the version; None for the newest, unless a label is given.
        label: Label of the version; empty for none.
    """

    name: str
    number: int | None = None
    label: str = ""


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

    def find(self, spec: ModelSpec) -> ModelVersion:
        """The version that a request asks for."""
        self.require_model(spec.name, f"Servable not found for request: Latest({spec.name})")
        return self.versions.find(spec.number, spec.label)

    def require_model(self, name: str, sentence: str) -> None:
        """Raises ServingError with a sentence unless the model of this name is served here."""
        if not name:
            raise bad_request("Missing model name in request.")
        if name != self.versions.name:
            raise not_found(sentence)

    @contextmanager
    def using(self, spec: ModelSpec) -> Iterator[ModelVersion]:
        """Hold the version that a request asks for, so that it stays loaded in the block."""
        version = self.find(spec)
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
