"""Write `export/loading/serving_ops.txt`: the ops that the stock TensorFlow Serving can run.

The stock server links TensorFlow's own ops and kernels, no Python and no other device. The nearest
thing to it on a developer's machine is the wheel's `libtensorflow_cc`, opened alone: its registries
hold neither the ops of the Python tests nor a kernel that calls Python. An op is listed when it has
a kernel for the CPU there and belongs to none of the families in `REFUSED`.

Run in a fresh process, from anywhere: `python tools/make_serving_ops.py`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).resolve().parent.parent / "export" / "loading" / "serving_ops.txt"
LIBRARY_NAMES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")

# Families that stay out although the library may hold their kernels, as starts of names.
REFUSED = (
    r"_",  # made by TensorFlow's own graph passes, never by a model
    r"EagerPyFunc|PyFunc",  # call the Python interpreter
    r"Xla|Tpu|.*TPU|.*SparseCore|.*Xla\w+ND|Infeed|Outfeed",  # XLA and TPU
    r"Mlir|TRTEngine|.*TRTResource|GetCalibrationDataOp",  # other compilers
    r"Collective|Nccl|DTensor|CopyToMesh|Relayout|SyncDevice",  # many devices
    r"Rpc|DeleteRpc|Remote|Send$|Recv$",  # other machines
    r"DataService|RegisterDataset|DistributedSave",  # other machines
    r"Debug|DumpTensor|Copy$|CopyHost|CheckPinned",  # debugger
    r"Experimental",  # earlier names of dataset ops, kept for old graphs only
    r"DatasetToTFRecord|SaveDataset|Snapshot|WriteFile",  # write files
    r".*SummaryWriter|CreateSummary|Write\w*Summary|ImportEvent",  # write event files
    r"CalibrationStatistics|CustomAggregator",  # write calibration files
    r"Abort|FileSystemSetConfiguration|DeleteMemoryCache|DummyMemoryCache",  # the whole process
)


class _Buffer(ctypes.Structure):
    """`TF_Buffer` of the C API."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class _Registries(NamedTuple):
    """What the library holds, as it hands it out.

    Attributes:
        version: the library's version, such as "2.21.0".
        ops: serialised OpList.
        kernels: serialised KernelList.
    """

    version: str
    ops: bytes
    kernels: bytes


def _find_library() -> Path:
    """Find libtensorflow_cc without importing TensorFlow, which would register more ops."""
    spec = importlib.util.find_spec("tensorflow")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    candidates = [Path(folder) / name for folder in folders for name in LIBRARY_NAMES]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"TensorFlow's C library is missing. Expected one of {LIBRARY_NAMES} in the installed "
        f"tensorflow package. Received: {folders}"
    )


def _read_registries(library: Path) -> _Registries:
    """Open the library alone and read its op and kernel registries."""
    capi = ctypes.CDLL(str(library))
    capi.TF_Version.restype = ctypes.c_char_p
    capi.TF_NewStatus.restype = ctypes.c_void_p
    capi.TF_GetAllOpList.restype = ctypes.POINTER(_Buffer)
    capi.TF_GetAllRegisteredKernels.restype = ctypes.POINTER(_Buffer)
    capi.TF_GetAllRegisteredKernels.argtypes = [ctypes.c_void_p]
    ops = capi.TF_GetAllOpList().contents
    kernels = capi.TF_GetAllRegisteredKernels(capi.TF_NewStatus()).contents
    return _Registries(
        version=capi.TF_Version().decode(),
        ops=ctypes.string_at(ops.data, ops.length),
        kernels=ctypes.string_at(kernels.data, kernels.length),
    )


def select_ops(registries: _Registries) -> list[str]:
    """Return the sorted names of the ops with a CPU kernel that no family of `REFUSED` claims."""
    # Imported late: the registries must be read before Python adds its own ops to them.
    from tensorflow.core.framework import kernel_def_pb2, op_def_pb2

    ops = {op.name for op in op_def_pb2.OpList.FromString(registries.ops).op}
    kernels = kernel_def_pb2.KernelList.FromString(registries.kernels).kernel
    runnable = {kernel.op for kernel in kernels if kernel.device_type in ("CPU", "DEFAULT")}
    return sorted(
        name for name in ops & runnable if not any(re.match(rule, name) for rule in REFUSED)
    )


def main() -> None:
    """Write the list."""
    registries = _read_registries(_find_library())
    header = (
        "# Ops that a graph for the stock TensorFlow Serving binary may hold, one a line.\n"
        "# Made by tools/make_serving_ops.py: ops with a CPU kernel in libtensorflow_cc of\n"
        f"# TensorFlow {registries.version}, less the families that the script refuses.\n"
        "# Do not edit by hand.\n"
    )
    TARGET.write_text(header + "\n".join(select_ops(registries)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
