"""What a recorded run was trained on, and by what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import keras

from tfpqn import __version__
from tfpqn.files.foreign import read_json, reading
from tfpqn.files.typed_json import write_json

MACHINE_FILE = "machine.json"
# What a record takes of it.
NOTED = {"backend", "hardware", "versions", "commit"}
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn")
# Flag of /proc/cpuinfo -> what a reader calls it. Speed depends on these more than on the name.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "bfloat16",
    "amx_bf16": "AMX",
}


def note_machine(folder: Path, *, anew: bool = False) -> dict[str, Any]:
    """What the run of a folder is trained on, as `describe_machine` says it.

    Written into the folder by the first call, before any training, and read by all others that do
    not want it `anew`.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / MACHINE_FILE
    if path.is_file() and not anew:
        expected = f"what the run is trained on, as training writes it: {sorted(NOTED)}"
        noted = read_json(path, expected)
        with reading(path, expected):
            if missing := NOTED - noted.keys():
                raise ValueError(f"nothing of {sorted(missing)}")
        return {name: noted[name] for name in NOTED}
    noted = describe_machine()
    write_json(path, noted)
    return noted


def describe_machine() -> dict[str, Any]:
    """Backend, hardware, versions of the libraries, and commit of the checkout, if it is one."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "backend": keras.backend.backend(),
        "hardware": describe_hardware(),
        "versions": {"tfpqn": __version__, "python": platform.python_version(), **versions},
        "commit": _read_commit(),
    }


def describe_hardware() -> str:
    """Cores, processor and its vector instructions; the accelerators that the backend uses."""
    processor = f"{os.cpu_count()} cores, {_read_cpuinfo('model name') or platform.processor()}"
    if instructions := ", ".join(_list_instructions()):
        processor += f" ({instructions})"
    return ", ".join([processor, *_list_accelerators()])


def _list_instructions() -> list[str]:
    flags = _read_cpuinfo("flags").split()
    return [name for flag, name in INSTRUCTIONS.items() if flag in flags]


def _read_cpuinfo(name: str) -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _list_accelerators() -> list[str]:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = map(tf.config.experimental.get_device_details, devices)
        return [str(found.get("device_name", "GPU")) for found in details]
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return []


def _read_commit() -> str | None:
    """The commit of the checkout that the package lies in; None outside of one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        finished = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        # No git here.
        return None
    return finished.stdout.strip() or None
