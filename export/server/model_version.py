"""A loaded version that is served, and the checks of requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ..interface.signatures import Arrays, Signature, TensorInfo
from ..interface.tensor_protos import dtype_name, from_proto, tensor_shape
from ..loading.loaders import SessionLoader, StatusError
from ..loading.op_check import check_ops
from ..model.version_folder import check_files, read_manifest, read_warmup_records
from .refusals import ServingError, bad_request

DEFAULT_SIGNATURE = "serving_default"
# Rows of one request; a larger search belongs into several requests.
MAX_ROWS = 1024


class ModelVersion:
    """A version that is served, counted by its users, all of them in the event loop's thread."""

    def __init__(self, number: int, model: SessionLoader) -> None:
        self.number = number
        self.model = model
        self._num_users = 0
        self._unused: asyncio.Future[None] | None = None

    @classmethod
    def load(cls, number: int, folder: Path) -> ModelVersion:
        """Check, load and warm up a version folder; blocks. If that fails the model is closed."""
        check_files(folder, read_manifest(folder).get("files", {}))
        check_ops(folder)
        version = cls(number, SessionLoader(folder))
        try:
            version._warm_up(folder)
        except BaseException:
            version.model.close()
            raise
        return version

    def find_signature(self, name: str) -> tuple[str, Signature]:
        """Name and description of a signature, of the default one for an empty name."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.model.signatures:
            raise ServingError(
                "FAILED_PRECONDITION",
                f'Serving signature key "{name}" not found. '
                f"Expected one of {sorted(self.model.signatures)}",
            )
        return name, self.model.signatures[name]

    def has_batch_axis(self, signature_name: str) -> bool:
        """Whether requests can be merged along the first axis of all inputs."""
        return all(map(_has_batch_axis, self.model.signatures[signature_name].inputs.values()))

    def run(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a signature on checked arrays; blocks."""
        try:
            return self.model.run_checked(signature_name, arrays)
        except StatusError as error:
            raise ServingError(error.code, error.message) from error

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the version loaded in the block."""
        self._num_users += 1
        try:
            yield
        finally:
            self._num_users -= 1
            if not self._num_users and self._unused and not self._unused.done():
                self._unused.set_result(None)

    async def wait_until_unused(self) -> None:
        """Return when no request needs the version any longer."""
        if self._num_users:
            self._unused = asyncio.get_running_loop().create_future()
            await self._unused

    def _warm_up(self, folder: Path) -> None:
        try:
            for request in read_warmup_records(folder):
                name, signature = self.find_signature(request.model_spec.signature_name)
                arrays = read_protos(request.inputs, name, signature)
                self.run(name, arrays)
        except (DecodeError, ServingError, ValueError) as error:
            raise ValueError(f"The warm-up requests must be answered. Received: {error}") from error


def read_protos(protos: Mapping[str, Any], name: str, signature: Signature) -> Arrays:
    """A request's tensors as arrays, checked before the values are read."""

    def read(key: str, info: TensorInfo) -> np.ndarray:
        proto = protos[key]
        if dtype_name(proto) != info.dtype:
            raise ValueError(f"must have dtype {info.dtype}. Received: {dtype_name(proto)}")
        _check_shape(tensor_shape(proto), info)
        return from_proto(proto)

    return read_inputs(protos, name, signature, read)


def read_inputs(
    values: Mapping[str, Any],
    name: str,
    signature: Signature,
    read: Callable[[str, TensorInfo], np.ndarray],
) -> Arrays:
    """Arrays by input name, of the shapes that the signature wants and of equally many rows.

    `read` makes an array of the input of a name; where it raises ValueError, the refusal names it.
    """
    if values.keys() != signature.inputs.keys():
        raise bad_request(
            f"the inputs of signature {name!r} must be {sorted(signature.inputs)}. "
            f"Received: {sorted(values)[:10]}"
        )
    arrays, rows = {}, {}
    for key, info in signature.inputs.items():
        try:
            arrays[key] = read(key, info)
            _check_shape(arrays[key].shape, info)
        except ValueError as error:
            raise bad_request(f"{key} {error}") from None
        if _has_batch_axis(info):
            rows[key] = len(arrays[key])
    if len(set(rows.values())) > 1:
        raise bad_request(f"all inputs must have equally many rows. Received: {rows}")
    return arrays


def _check_shape(shape: tuple[int, ...], info: TensorInfo) -> None:
    wanted = info.shape
    if wanted is None:
        return
    pairs = zip(shape, wanted, strict=False)
    if len(shape) != len(wanted) or any(want not in (None, size) for size, want in pairs):
        words = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(f"must have shape [{words}]. Received: {list(shape)}")
    if _has_batch_axis(info) and not 1 <= shape[0] <= MAX_ROWS:
        raise ValueError(f"must have 1 to {MAX_ROWS} rows. Received: {shape[0]}")


def _has_batch_axis(info: TensorInfo) -> bool:
    return bool(info.shape) and info.shape is not None and info.shape[0] is None
