"""Load a SavedModel through TensorFlow's C API, as a C++ server does, without Python."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ..interface.signatures import Arrays
from .loaders import ServedModel, StatusError

LIBRARY_NAMES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")
DISABLE_XLA = "_ZN10tensorflow21DisableXlaCompilationEv"
STRING_BYTES = 24  # size of a TF_TString


class _Output(ctypes.Structure):
    """`TF_Output`: one output of one operation of the graph."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


# Result and arguments of each call, in the letters of `_TYPES`; without them ctypes cuts
# pointers to 32 bits.
PROTOTYPES = {
    **dict.fromkeys(("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions"), "p"),
    **dict.fromkeys(("TF_DeleteStatus", "TF_DeleteGraph", "TF_DeleteSessionOptions"), "vp"),
    **dict.fromkeys(("TF_DeleteTensor", "TF_StringInit", "TF_StringDealloc"), "vp"),
    **dict.fromkeys(("TF_CloseSession", "TF_DeleteSession"), "vpp"),
    **dict.fromkeys(("TF_GetCode", "TF_TensorType", "TF_NumDims"), "ip"),
    **dict.fromkeys(("TF_TensorByteSize", "TF_StringGetSize"), "zp"),
    **dict.fromkeys(("TF_TensorData", "TF_StringGetDataPointer"), "pp"),
    "TF_Message": "sp",
    "TF_GraphOperationByName": "pps",
    "TF_LoadSessionFromSavedModel": "pppspippp",
    "TF_SessionRun": "vpp" + "ppi" * 2 + "pipp",
    "TF_AllocateTensor": "pipiz",
    "TF_Dim": "lpi",
    "TF_StringCopy": "vpsz",
    DISABLE_XLA: "v",
}
_TYPES = {"v": None, "p": c_void_p, "s": c_char_p, "i": c_int, "l": c_int64, "z": c_size_t}


class NativeLoader(ServedModel):
    """A SavedModel through `TF_LoadSessionFromSavedModel` and `TF_SessionRun`, with XLA disabled.

    XLA compilation is forbidden as in the stock server: a graph with a must-compile mark fails when
    run. That holds for the whole process and cannot be undone, so use a process of its own.

    A graph that keeps a string input beyond the call, such as one that assigns it to a variable, is
    not supported.
    """

    def _load(self, folder: str) -> None:
        # Runs once: at `close`, when the loader is dropped, or when Python ends.
        self._handles = ExitStack()
        self._finalizer = weakref.finalize(self, self._handles.close)
        self._library = _open_library()
        getattr(self._library, DISABLE_XLA)()
        self._graph = self._library.TF_NewGraph()
        self._handles.callback(self._library.TF_DeleteGraph, self._graph)
        self._session = self._open_session(folder)

    def run_checked(self, signature_name: str, arrays: Arrays) -> Arrays:
        definition = self.signature_definitions[signature_name]
        names = sorted(definition.outputs)
        feeds = self._find_outputs([definition.inputs[name].name for name in arrays])
        fetches = self._find_outputs([definition.outputs[name].name for name in names])
        with ExitStack() as stack:
            tensors = [stack.enter_context(_fed(self._library, arrays[name])) for name in arrays]
            results = self._run_session(feeds, tensors, fetches)
            for result in results:
                stack.callback(self._library.TF_DeleteTensor, result)
            return {
                name: _read_tensor(self._library, result)
                for name, result in zip(names, results, strict=True)
            }

    def _release(self) -> None:
        self._finalizer()

    def _open_session(self, folder: str) -> int:
        library, tags = self._library, (c_char_p * 1)(b"serve")
        options = library.TF_NewSessionOptions()
        try:
            with _status(library) as status:
                session = library.TF_LoadSessionFromSavedModel(
                    *(options, None, folder.encode(), tags, len(tags)),
                    *(self._graph, None, status),
                )
        finally:
            library.TF_DeleteSessionOptions(options)
        self._handles.callback(_delete_session, library, session)
        return session

    def _find_outputs(self, tensor_names: list[str]) -> ctypes.Array[_Output]:
        """Tensors of the graph by names such as "operation:0"."""
        outputs = (_Output * len(tensor_names))()
        for output, tensor_name in zip(outputs, tensor_names, strict=True):
            name, _, index = tensor_name.rpartition(":")
            output.operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
            output.index = int(index)
        return outputs

    def _run_session(
        self, feeds: ctypes.Array[_Output], tensors: list[int], fetches: ctypes.Array[_Output]
    ) -> list[int]:
        """Run the session on fed tensors and return the fetched ones, which the caller deletes."""
        values = (c_void_p * len(tensors))(*tensors)
        results = (c_void_p * len(fetches))()
        with _status(self._library) as status:
            self._library.TF_SessionRun(
                *(self._session, None, feeds, values, len(values)),
                *(fetches, results, len(results), None, 0, None, status),
            )
        return list(results)


@lru_cache(maxsize=1)
def _open_library() -> ctypes.CDLL:
    """Open TensorFlow's C library in the wheel: the copy that Python's TensorFlow has loaded."""
    folder = Path(tf.sysconfig.get_lib())
    paths = [folder / name for name in LIBRARY_NAMES if (folder / name).is_file()]
    if not paths:
        raise ImportError(
            f"TensorFlow's C library is missing. Expected one of {LIBRARY_NAMES}. "
            f"Received: the folder {str(folder)!r} without it"
        )
    library = ctypes.CDLL(str(paths[0]))
    for name, letters in PROTOTYPES.items():
        # By attribute: the library keeps the function object then, and with it these types.
        function: Any = getattr(library, name)
        function.restype, *function.argtypes = [_TYPES[letter] for letter in letters]
    return library


@contextmanager
def _status(library: ctypes.CDLL) -> Iterator[int]:
    """Lend a TF_Status and raise `StatusError` afterwards if it was set."""
    status = library.TF_NewStatus()
    try:
        yield status
        code = library.TF_GetCode(status)
        if code:
            raise StatusError(code, library.TF_Message(status).decode("utf-8", "replace"))
    finally:
        library.TF_DeleteStatus(status)


def _delete_session(library: ctypes.CDLL, session: int) -> None:
    """Close and delete a session. What it may still complain of is of no use to anyone."""
    status = library.TF_NewStatus()
    library.TF_CloseSession(session, status)
    library.TF_DeleteSession(session, status)
    library.TF_DeleteStatus(status)


@contextmanager
def _fed(library: ctypes.CDLL, array: np.ndarray) -> Iterator[int]:
    """Lend a TF_Tensor with the content of an array, strings given as an object array of bytes."""
    is_string = array.dtype.hasobject
    size = array.size * STRING_BYTES if is_string else array.nbytes
    dims = (c_int64 * array.ndim)(*array.shape)
    dtype = tf.as_dtype(array.dtype).as_datatype_enum
    tensor = library.TF_AllocateTensor(dtype, dims, array.ndim, size)
    # Held until it is copied: of an array in another order this is a new one.
    array = np.ascontiguousarray(array)
    start = library.TF_TensorData(tensor)
    addresses = _string_addresses(start, size) if is_string else range(0)
    try:
        for address, value in zip(addresses, array.flat, strict=False):
            library.TF_StringInit(address)
            library.TF_StringCopy(address, value, len(value))
        if not is_string:
            ctypes.memmove(start, array.ctypes.data, size)
        yield tensor
    finally:
        # The tensor frees its own memory, but not the bytes that its strings point to.
        for address in addresses:
            library.TF_StringDealloc(address)
        library.TF_DeleteTensor(tensor)


def _read_tensor(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    """Copy a TF_Tensor to an array, strings to an object array of bytes."""
    shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
    dtype = tf.as_dtype(library.TF_TensorType(tensor))
    start, size = library.TF_TensorData(tensor), library.TF_TensorByteSize(tensor)
    if dtype == tf.string:
        values = [
            ctypes.string_at(
                library.TF_StringGetDataPointer(address), library.TF_StringGetSize(address)
            )
            for address in _string_addresses(start, size)
        ]
        return np.array(values, object).reshape(shape)
    if dtype in (tf.resource, tf.variant):
        raise TypeError(
            f"An output cannot be read. Expected numbers or strings. Received: {dtype.name}"
        )
    array = np.empty(shape, dtype.as_numpy_dtype)
    ctypes.memmove(array.ctypes.data, start, size)
    return array


def _string_addresses(start: int, size: int) -> range:
    """Where the strings of a tensor are; without any there is no memory either."""
    return range(start, start + size, STRING_BYTES) if size else range(0)
