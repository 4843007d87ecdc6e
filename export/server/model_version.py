"""A loaded version: a session whose signatures are prepared once, and the checks of requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto

from ..interface.signatures import Arrays, Signature, TensorInfo
from ..interface.tensor_protos import dtype_name, from_proto, tensor_shape
from ..loading.loaders import Folder, ServedModel, StatusError
from ..loading.op_check import check_ops, find_saved_model
from ..model.version_folder import check_files, read_manifest, read_warmup_records
from .errors import ServingError, bad_request

__all__ = ["MAX_ROWS", "ModelVersion"]

DEFAULT_SIGNATURE = "serving_default"
# Rows of one request; a larger search belongs into several requests.
MAX_ROWS = 1024
_IN_CALLERS_THREAD = -1


class _Prepared(NamedTuple):
    """A prepared signature; inputs and outputs come in the order of the names."""

    call: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class SessionModel(ServedModel):
    """A loaded SavedModel that runs checked arrays from any thread, with little overhead.

    Args:
        folder: Folder of the SavedModel.

    Attributes:
        signature_definitions: `SignatureDef` protos by name.

    Raises:
        FileNotFoundError: There is no SavedModel.
        StatusError: TensorFlow cannot load it.
    """

    def __init__(self, folder: Folder) -> None:
        path = find_saved_model(folder).parent
        self._prepared: dict[str, _Prepared] = {}
        # Graph optimizers go over the whole graph for each signature: without them a version is
        # loaded in a tenth of the time beside live requests. Searches gain nothing from them.
        config = ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default(), _status_errors():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
                self._read_signatures(meta_graph)
                self.signature_definitions = dict(self._definitions)
                self._prepared = {name: self._prepare(name) for name in self._definitions}
        except BaseException:
            self.close()
            raise

    def _prepare(self, signature_name: str) -> _Prepared:
        definition = self._definitions[signature_name]
        inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
        options = CallableOptions(
            feed=[definition.inputs[name].name for name in inputs],
            fetch=[definition.outputs[name].name for name in outputs],
        )
        # Images are decoded side by side; all else is too little work to hand to other threads.
        if all(info.dtype != tf.string for info in definition.inputs.values()):
            options.run_options.inter_op_thread_pool = _IN_CALLERS_THREAD
        call = self._session._make_callable_from_options(options)
        return _Prepared(call, tuple(inputs), tuple(outputs))

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        return self.run_checked(signature_name, arrays)

    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run one signature on arrays that have its names, dtypes and shapes."""
        call, inputs, outputs = self._prepared[signature_name]
        with _status_errors():
            values = call(*[arrays[name] for name in inputs])
        return dict(zip(outputs, map(np.asarray, values), strict=True))

    def _release(self) -> None:
        self._prepared.clear()
        self._session.close()


class ModelVersion:
    """A version that is served, counted by its users.

    `in_use` and `wait_until_unused` belong to the event loop's thread.

    Args:
        number: The version's number.
        model: The loaded SavedModel.
    """

    def __init__(self, number: int, model: SessionModel) -> None:
        self.number = number
        self.model = model
        self._num_users = 0
        self._unused: asyncio.Future[None] | None = None

    @classmethod
    def load(cls, number: int, folder: Path) -> ModelVersion:
        """Check, load and warm up a version folder; blocks, so belongs into a thread.

        Raises:
            Exception: Whatever is wrong with it; the model is closed again.
        """
        check_files(folder, read_manifest(folder).get("files", {}))
        check_ops(folder)
        version = cls(number, SessionModel(folder))
        try:
            version._warm_up(folder)
        except BaseException:
            version.model.close()
            raise
        return version

    def find_signature(self, name: str) -> tuple[str, Signature]:
        """Name and description of a signature, of the default one for an empty name.

        Raises:
            KeyError: There is none of this name.
        """
        name = name or DEFAULT_SIGNATURE
        return name, self.model.signatures[name]

    def has_batch_axis(self, signature_name: str) -> bool:
        """Whether requests can be merged along the first axis of all inputs."""
        return all(map(_has_batch_axis, self.model.signatures[signature_name].inputs.values()))

    def run(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a signature on checked arrays; blocks.

        Raises:
            ServingError: TensorFlow refused the input.
        """
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
        except (DecodeError, KeyError, ServingError, ValueError) as error:
            raise ValueError(f"The warm-up requests must be answered. Received: {error}") from error


def read_protos(protos: Mapping[str, Any], name: str, signature: Signature) -> Arrays:
    """A request's tensors as arrays, checked before the values are read.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
    """

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

    Args:
        values: What came, by name.
        name: The signature's.
        signature: Its inputs and outputs.
        read: Makes an array of the input of a name; ValueError if it cannot.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
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


@contextlib.contextmanager
def _status_errors() -> Iterator[None]:
    """Raise TensorFlow's own errors as `StatusError`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise StatusError(int(error.error_code), str(error.message)) from error
