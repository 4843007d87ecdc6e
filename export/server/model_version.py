"""One loaded version of the model: what runs requests, and who still needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ..interface.signatures import Arrays
from ..interface.tensor_protos import dtype_name, from_proto, tensor_shape
from ..model.version_folder import read_warmup_records
from .errors import ServingError
from .session_model import SessionModel
from .validation import SignatureChecker
from .version_folder import check_version

__all__ = ["DEFAULT_SIGNATURE", "ModelVersion", "read_inputs", "read_inputs_of_any_size"]

DEFAULT_SIGNATURE = "serving_default"
# Larger requests are read in a thread, so that the others need not wait.
_LARGE_BYTES = 2**18


class ModelVersion:
    """A loaded version, counted by its users; it is closed when the last one let go.

    `acquire`, `release` and `wait_until_unused` belong to the event loop's thread.

    Args:
        number: The version's number.
        model: The loaded SavedModel.
        manifest: Content of the version's manifest.
    """

    def __init__(self, number: int, model: SessionModel, manifest: Mapping[str, Any]) -> None:
        self.number = number
        self.model = model
        self.manifest = manifest
        self.checkers = {
            name: SignatureChecker(name, signature, manifest)
            for name, signature in model.signatures.items()
        }
        self._num_users = 0
        self._unused: asyncio.Future[None] | None = None

    @classmethod
    def load(cls, number: int, folder: Path, base_path: Path) -> ModelVersion:
        """Check, load and warm up a version folder; blocks, so belongs into a thread.

        Raises:
            Exception: Whatever is wrong with it; the model is closed again.
        """
        manifest = check_version(folder, base_path)
        version = cls(number, SessionModel(folder), manifest)
        try:
            version._warm_up(folder)
        except BaseException:
            version.close()
            raise
        return version

    def checker(self, signature_name: str) -> SignatureChecker | None:
        """The checks of a signature, the default one for an empty name; None if unknown."""
        return self.checkers.get(signature_name or DEFAULT_SIGNATURE)

    def run(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a signature on checked arrays; blocks.

        Raises:
            StatusError: TensorFlow refused the input.
        """
        return self.model.run_checked(signature_name, arrays)

    def acquire(self) -> None:
        """Count one more user."""
        self._num_users += 1

    def release(self) -> None:
        """Count one user less."""
        self._num_users -= 1
        if not self._num_users and self._unused is not None and not self._unused.done():
            self._unused.set_result(None)

    async def wait_until_unused(self) -> None:
        """Return when no request needs the version any longer."""
        if self._num_users:
            self._unused = asyncio.get_running_loop().create_future()
            await self._unused

    def close(self) -> None:
        """Free what the version holds; blocks."""
        self.model.close()

    def _warm_up(self, folder: Path) -> None:
        try:
            for request in read_warmup_records(folder):
                name = request.model_spec.signature_name
                checker = self.checker(name)
                if checker is None:
                    raise ValueError(f"signature_name must be known. Received: {name!r}")
                arrays, _ = read_inputs(request.inputs, checker)
                self.run(checker.name, arrays)
        except (ServingError, DecodeError, ValueError) as error:
            raise ValueError(f"The warm-up requests must be answered. Received: {error}") from error


def read_inputs(protos: Mapping[str, Any], checker: SignatureChecker) -> tuple[Arrays, int]:
    """Check a request's tensors and read them.

    Returns:
        Arrays by input name, and the number of rows.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
    """
    checker.check_names(protos)
    arrays = {}
    for name, proto in protos.items():
        try:
            checker.check_tensor(name, dtype_name(proto), tensor_shape(proto))
            arrays[name] = from_proto(proto)
        except ValueError as error:
            raise ServingError("INVALID_ARGUMENT", f"{name}: {error}") from error
    return arrays, checker.check_values(arrays)


async def read_inputs_of_any_size(request: Any, checker: SignatureChecker) -> tuple[Arrays, int]:
    """`read_inputs` of a `PredictRequest`, without keeping the event loop busy for long."""
    if request.ByteSize() < _LARGE_BYTES:
        return read_inputs(request.inputs, checker)
    return await asyncio.to_thread(read_inputs, request.inputs, checker)
