"""From a request to its answer: what gRPC and REST have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ..interface.signatures import Arrays
from ..model.batching_parameters import BatchingParameters
from .batching import Batcher
from .errors import ServingError
from .model_version import ModelVersion
from .runner import Runner
from .validation import SignatureChecker
from .versions import ModelVersions

__all__ = ["ModelSpec", "Prediction", "Predictor"]


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


class Prediction(NamedTuple):
    """An answer.

    Attributes:
        number: Number of the version that answered.
        signature_name: The signature that answered.
        outputs: Arrays by output name; strings as object arrays of bytes.
    """

    number: int
    signature_name: str
    outputs: Arrays


class Predictor:
    """Runs checked requests, merged or alone.

    Args:
        versions: The model's versions.
        runner: Threads that run requests.
        batching: How requests are merged; None to run each alone.
        on_batch: Called with the number of rows of each merged batch.
    """

    def __init__(
        self,
        versions: ModelVersions,
        runner: Runner,
        batching: BatchingParameters | None,
        on_batch: Callable[[int], None],
    ) -> None:
        self.versions = versions
        self._runner = runner
        self._batcher = Batcher(batching, runner, on_batch) if batching else None

    def find(self, spec: ModelSpec) -> ModelVersion:
        """The version that a request asks for.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        self.require_model(spec.name)
        return self.versions.find(spec.number, spec.label)

    def require_model(self, name: str) -> None:
        """Raises ServingError unless the name is that of the model that is served here."""
        if not name:
            raise ServingError("INVALID_ARGUMENT", "Missing model name in request.")
        if name != self.versions.name:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({name})")

    @contextmanager
    def using(self, spec: ModelSpec) -> Iterator[ModelVersion]:
        """Hold the version that a request asks for, so that it stays loaded in the block."""
        version = self.find(spec)
        version.acquire()
        try:
            yield version
        finally:
            version.release()

    async def predict(
        self,
        version: ModelVersion,
        checker: SignatureChecker,
        arrays: Arrays,
        rows: int,
        output_filter: Sequence[str] = (),
    ) -> Prediction:
        """Run a checked request on a version that is held.

        Raises:
            ServingError: UNAVAILABLE if too many requests wait.
            StatusError: TensorFlow refused the input.
        """
        outputs = await self._run(version, checker, arrays, rows)
        if output_filter:
            outputs = {name: outputs[name] for name in output_filter}
        return Prediction(version.number, checker.name, outputs)

    async def _run(
        self, version: ModelVersion, checker: SignatureChecker, arrays: Arrays, rows: int
    ) -> Arrays:
        batcher = self._batcher
        if batcher and checker.has_batch_axis and rows <= batcher.parameters.max_batch_size:
            return await batcher.run(version, checker.name, arrays, rows)
        return await self._runner.submit(version, lambda: version.run(checker.name, arrays))
