"""Ways to load a SavedModel behind one interface, so that several readers can verify an export.

`SavedModelLoader` reads as a Python user does, `SessionLoader` as TensorFlow 1 programs do, and
`native_loader.NativeLoader` as a C++ server does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from tfpqn.files.foreign import reading

from ..interface.signatures import Arrays, Signature, TensorInfo, prepare_inputs
from .op_check import Folder, find_saved_model

__all__ = ["SavedModelLoader", "ServedModel", "SessionLoader", "StatusError"]

# TensorFlow runs these itself.
HIDDEN_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


class StatusError(RuntimeError):
    """TensorFlow refused to load or to run a graph.

    Attributes:
        code: name of the status code, such as "INVALID_ARGUMENT".
        message: TensorFlow's sentence.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = error_codes_pb2.Code.Name(code)
        self.message = message
        super().__init__(f"{self.code}: {message}")


class ServedModel(ABC):
    """A loaded SavedModel and its `signatures` by name; a context manager that closes it."""

    signatures: dict[str, Signature]
    _definitions: dict[str, Any]
    _is_open = True

    def run(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run one signature.

        Args:
            signature_name: one of `signatures`.
            inputs: arrays by input name; strings as object arrays of bytes or str. Lists are
                converted to the signature's dtype. Shapes are left for TensorFlow to judge.

        Returns:
            Arrays by output name; strings as object arrays of bytes.

        Raises:
            ValueError: unknown signature, or missing or unknown inputs.
            TypeError: an array of another dtype than the signature's.
            StatusError: TensorFlow refused the input.
            RuntimeError: the model is closed.
        """
        if not self._is_open:
            raise RuntimeError(
                "The model is closed. Expected `run` before `close`. Received: after"
            )
        return self._run(signature_name, prepare_inputs(self.signatures, signature_name, inputs))

    def close(self) -> None:
        """Let go of the model; it cannot be run afterwards. Closing twice does no harm."""
        self._is_open = False
        self._release()

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_signatures(self, meta_graph: MetaGraphDef) -> None:
        """Read the signatures that callers may use; ValueError if one has a sparse tensor."""
        names = sorted(set(meta_graph.signature_def) - HIDDEN_SIGNATURES)
        self._definitions = {name: meta_graph.signature_def[name] for name in names}
        self.signatures = {
            name: Signature(_read_infos(definition.inputs), _read_infos(definition.outputs))
            for name, definition in self._definitions.items()
        }

    @abstractmethod
    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a known signature on arrays that have its names and dtypes."""

    @abstractmethod
    def _release(self) -> None:
        """Free what the model holds; may be called again."""


class SavedModelLoader(ServedModel):
    """A SavedModel through `tf.saved_model.load`.

    Shapes are not compared with the signature before the graph does.

    Args:
        folder: folder of the SavedModel.

    Raises:
        FileNotFoundError: `saved_model.pb` is missing.
        ValueError: TensorFlow cannot load the folder.
    """

    def __init__(self, folder: Folder) -> None:
        path = find_saved_model(folder).parent
        with reading(path, "a SavedModel"), _status_errors():
            # Functions of a loaded object die with it, so it is kept.
            self._model: Any = tf.saved_model.load(str(path))
            functions = self._model.signatures
            self.signatures = {name: _read_function(functions[name]) for name in sorted(functions)}

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        with _status_errors():
            outputs = self._model.signatures[signature_name](**tensors)
        return {name: _to_array(tensor.numpy()) for name, tensor in outputs.items()}

    def _release(self) -> None:
        self._model = None


class SessionLoader(ServedModel):
    """A SavedModel through a `tf.compat.v1.Session` with a graph of its own.

    The session compares shapes with the signature and raises ValueError for a wrong one.

    Args:
        folder: folder of the SavedModel.

    Raises:
        FileNotFoundError: `saved_model.pb` is missing.
        ValueError: TensorFlow cannot load the folder.
    """

    def __init__(self, folder: Folder) -> None:
        path = find_saved_model(folder).parent
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with reading(path, "a SavedModel"), self._session.graph.as_default(), _status_errors():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
                self._read_signatures(meta_graph)
        except BaseException:
            self.close()
            raise

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        definition = self._definitions[signature_name]
        feeds = {definition.inputs[name].name: array for name, array in arrays.items()}
        fetches = {name: info.name for name, info in definition.outputs.items()}
        with _status_errors():
            outputs = self._session.run(fetches, feeds)
        return {name: _to_array(value) for name, value in outputs.items()}

    def _release(self) -> None:
        self._session.close()


def _to_array(value: Any) -> np.ndarray:
    """Make an array of a result; TensorFlow hands out a scalar string as bare bytes."""
    return np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)


def _read_function(function: Any) -> Signature:
    """Read the signature of a loaded ConcreteFunction."""
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    return Signature(_plain_infos(inputs), _plain_infos(outputs))


def _plain_infos(specs: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Return the plain form of what has a dtype and a shape, sorted by name."""
    return {
        name: TensorInfo(spec.dtype.name, None if spec.shape.rank is None else tuple(spec.shape))
        for name, spec in sorted(specs.items())
    }


def _read_infos(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Read TensorInfo protos by name."""
    for name, info in infos.items():
        if info.WhichOneof("encoding") != "name":
            raise ValueError(
                f"The tensor {name!r} of a signature cannot be read. Expected a dense tensor. "
                f"Received: encoding={info.WhichOneof('encoding')!r}"
            )
    specs = {name: tf.TensorSpec(info.tensor_shape, info.dtype) for name, info in infos.items()}
    return _plain_infos(specs)


@contextmanager
def _status_errors() -> Iterator[None]:
    """Raise TensorFlow's own errors as `StatusError`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise StatusError(int(error.error_code), str(error.message)) from error
