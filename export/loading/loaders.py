"""Ways to load a SavedModel behind one interface, so that several readers can verify an export.

`SavedModelLoader` reads as a Python user does, `SessionLoader` as TensorFlow 1 programs do, and
`native_loader.NativeLoader` as a C++ server does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto

from tfpqn.files.foreign import reading

from ..interface.signatures import Arrays, read_inputs, require_signature, to_array
from ..interface.tensor_protos import read_signatures
from .op_check import Folder, read_saved_model

_IN_CALLERS_THREAD = -1
# Rows of numbers that other threads are worth waking for.
MANY_ROWS = 8


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
    """A loaded SavedModel; a context manager that closes it.

    Args:
        folder: Folder of the SavedModel.

    Attributes:
        signatures: Inputs and outputs of each signature, by its name.
        signature_definitions: `SignatureDef` protos by name.

    Raises:
        FileNotFoundError: `saved_model.pb` is missing.
        ValueError: TensorFlow cannot load the folder.
    """

    _is_open = True

    def __init__(self, folder: Folder) -> None:
        meta_graph = read_saved_model(folder).meta_graphs[0]
        self.signatures = read_signatures(meta_graph)
        definitions = meta_graph.signature_def
        self.signature_definitions = {name: definitions[name] for name in self.signatures}
        try:
            with reading(folder, "a SavedModel"), status_errors():
                self._load(str(Path(folder)))
        except BaseException:
            self.close()
            raise

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
        require_signature(signature_name, self.signatures)
        signature = self.signatures[signature_name]
        return self.run_checked(
            signature_name, read_inputs(signature_name, signature, inputs, to_array)
        )

    def close(self) -> None:
        """Let go of the model; it cannot be run afterwards. Closing twice does no harm."""
        self._is_open = False
        self._release()

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def _load(self, folder: str) -> None:
        """Load a folder whose signatures are known."""

    @abstractmethod
    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a known signature on arrays that have its names and dtypes."""

    @abstractmethod
    def _release(self) -> None:
        """Free what is loaded, though loading may have failed; may be called again."""


class SavedModelLoader(ServedModel):
    """A SavedModel through `tf.saved_model.load`."""

    def _load(self, folder: str) -> None:
        # Functions of a loaded object die with it, so it is kept.
        self._model: Any = tf.saved_model.load(folder)

    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        with status_errors():
            outputs = self._model.signatures[signature_name](**tensors)
        return {name: _to_array(tensor.numpy()) for name, tensor in outputs.items()}

    def _release(self) -> None:
        self._model = None


class SessionLoader(ServedModel):
    """A SavedModel through a `tf.compat.v1.Session`, which runs from any thread at little cost."""

    def _load(self, folder: str) -> None:
        # Graph optimizers go over the whole graph for each signature: without them a version is
        # loaded in a tenth of the time beside live requests. Searches gain nothing from them.
        config = ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        self._calls: dict[tuple[str, bool], Any] = {}
        with self._session.graph.as_default():
            tf.compat.v1.saved_model.load(self._session, ["serve"], folder)
        self._calls.update(((name, False), self._prepare(name)) for name in self.signatures)

    def _prepare(self, signature_name: str, is_much: bool = False) -> Any:
        """What takes the inputs and gives the outputs in the order of their names."""
        definition = self.signature_definitions[signature_name]
        feed, fetch = (
            [infos[name].name for name in sorted(infos)]
            for infos in (definition.inputs, definition.outputs)
        )
        options = CallableOptions(feed=feed, fetch=fetch)
        if not is_much:
            options.run_options.inter_op_thread_pool = _IN_CALLERS_THREAD
        return self._session._make_callable_from_options(options)

    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        key = signature_name, any(map(_is_much, arrays.values()))
        # Made when it is needed: a version is loaded beside live requests.
        call = self._calls.get(key) or self._calls.setdefault(key, self._prepare(*key))
        with status_errors():
            values = call(*[arrays[name] for name in sorted(arrays)])
        outputs = self.signatures[signature_name].outputs
        return dict(zip(outputs, map(_to_array, values), strict=True))

    def _release(self) -> None:
        self._calls.clear()
        self._session.close()


def _is_much(array: np.ndarray) -> bool:
    """Whether an input is worth waking other threads for, as to decode images side by side."""
    if array.dtype == object:
        return array.size > 1
    return array.ndim > 0 and len(array) >= MANY_ROWS


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
