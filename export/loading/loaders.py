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
from .op_check import Folder, find_saved_model, read_saved_model

# TensorFlow runs these itself.
HIDDEN_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


class StatusError(RuntimeError):
    """TensorFlow refused to load or to run a graph.

    Attributes:
        code: Name of the status code, such as "INVALID_ARGUMENT".
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
            signature_name: One of `signatures`.
            inputs: Arrays by input name; strings as object arrays of bytes or str. Lists are
                converted to the signature's dtype. Shapes are left for TensorFlow to judge.

        Returns:
            Arrays by output name; strings as object arrays of bytes.

        Raises:
            ValueError: Unknown signature, or missing or unknown inputs.
            TypeError: An array of another dtype than the signature's.
            StatusError: TensorFlow refused the input.
            RuntimeError: The model is closed.
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
        self.signatures = read_signatures(meta_graph)
        self._definitions = {name: meta_graph.signature_def[name] for name in self.signatures}

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
        folder: Folder of the SavedModel.

    Raises:
        FileNotFoundError: `saved_model.pb` is missing.
        ValueError: TensorFlow cannot load the folder.
    """

    def __init__(self, folder: Folder) -> None:
        path = find_saved_model(folder).parent
        with reading(path, "a SavedModel"), status_errors():
            self._read_signatures(read_saved_model(path).meta_graphs[0])
            # Functions of a loaded object die with it, so it is kept.
            self._model: Any = tf.saved_model.load(str(path))

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        with status_errors():
            outputs = self._model.signatures[signature_name](**tensors)
        return {name: _to_array(tensor.numpy()) for name, tensor in outputs.items()}

    def _release(self) -> None:
        self._model = None


class SessionLoader(ServedModel):
    """A SavedModel through a `tf.compat.v1.Session` with a graph of its own.

    The session compares shapes with the signature and raises ValueError for a wrong one.

    Args:
        folder: Folder of the SavedModel.

    Raises:
        FileNotFoundError: `saved_model.pb` is missing.
        ValueError: TensorFlow cannot load the folder.
    """

    def __init__(self, folder: Folder) -> None:
        path = find_saved_model(folder).parent
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with reading(path, "a SavedModel"), self._session.graph.as_default(), status_errors():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
                self._read_signatures(meta_graph)
        except BaseException:
            self.close()
            raise

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        definition = self._definitions[signature_name]
        feeds = {definition.inputs[name].name: array for name, array in arrays.items()}
        fetches = {name: info.name for name, info in definition.outputs.items()}
        with status_errors():
            outputs = self._session.run(fetches, feeds)
        return {name: _to_array(value) for name, value in outputs.items()}

    def _release(self) -> None:
        self._session.close()


def read_signatures(meta_graph: MetaGraphDef) -> dict[str, Signature]:
    """The signatures that callers may use, sorted by name."""
    definitions = sorted(meta_graph.signature_def.items())
    return {
        name: Signature(_read_infos(definition.inputs), _read_infos(definition.outputs))
        for name, definition in definitions
        if name not in HIDDEN_SIGNATURES
    }


def _read_infos(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Dtypes and shapes of a signature's inputs or outputs, sorted by name."""
    read = {}
    for name, info in sorted(infos.items()):
        shape = tf.TensorShape(info.tensor_shape)
        sizes = None if shape.rank is None else tuple(shape)
        read[name] = TensorInfo(tf.as_dtype(info.dtype).name, sizes)
    return read


def _to_array(value: Any) -> np.ndarray:
    """Make an array of a result; TensorFlow hands out a scalar string as bare bytes."""
    return np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)


@contextmanager
def status_errors() -> Iterator[None]:
    """Raise TensorFlow's own errors as `StatusError`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise StatusError(int(error.error_code), str(error.message)) from error
