"""A SavedModel for serving: a session whose signatures are prepared once.

Of the ways to load this is the one that serves: a session may be run from many threads, frees its
variables when it is closed, and with prepared signatures costs a third of `tf.saved_model.load`
for each small request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto

from ..interface.signatures import Arrays
from ..loading.loaders import Folder, ServedModel, StatusError
from ..loading.op_check import find_saved_model

__all__ = ["SessionModel"]

_IN_CALLERS_THREAD = -1


class _Callable(NamedTuple):
    """A prepared signature; inputs and outputs come in the order of the names."""

    call: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class SessionModel(ServedModel):
    """A loaded SavedModel that runs checked arrays with little overhead.

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
        self._callables: dict[str, _Callable] = {}
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=_make_config())
        try:
            with self._session.graph.as_default(), _status_errors():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
            self._read_signatures(meta_graph)
            self.signature_definitions = dict(self._definitions)
            with _status_errors():
                self._callables = {name: self._prepare(name) for name in self._definitions}
        except BaseException:
            self.close()
            raise

    def _prepare(self, signature_name: str) -> _Callable:
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
        return _Callable(call, tuple(inputs), tuple(outputs))

    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run one signature on arrays that have its names, dtypes and shapes; from any thread.

        Raises:
            StatusError: TensorFlow refused the input.
        """
        return self._run(signature_name, arrays)

    def _run(self, signature_name: str, arrays: Arrays) -> Arrays:
        call, inputs, outputs = self._callables[signature_name]
        with _status_errors():
            values = call(*[arrays[name] for name in inputs])
        return dict(zip(outputs, map(np.asarray, values), strict=True))

    def _release(self) -> None:
        self._callables.clear()
        self._session.close()


def _make_config() -> ConfigProto:
    """Without graph optimizers: a version is loaded in a tenth of the time beside live requests.

    They go over the whole graph for each signature. Searches gain nothing from them,
    convolutional networks a tenth.
    """
    config = ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


@contextmanager
def _status_errors() -> Iterator[None]:
    """Raise TensorFlow's own errors as `StatusError`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise StatusError(int(error.error_code), str(error.message)) from error
