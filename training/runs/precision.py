"""A word on half precision where nothing computes in it."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras

# Flags of /proc/cpuinfo: a processor that computes in bfloat16 has one.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
CPUINFO = Path("/proc/cpuinfo")


def warn_of_slow_precision(precision: str) -> None:
    """Say that half precision may be slow where neither processor nor accelerator has it."""
    if precision == "float32" or _has_accelerator():
        return
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.is_file() else ""
    if not BFLOAT16_FLAGS & set(text.split()):
        warnings.warn(
            f"{precision} may be much slower than float32 on a processor without bfloat16",
            stacklevel=2,
        )


def _has_accelerator() -> bool:
    if keras.backend.backend() == "torch":
        import torch

        return bool(torch.cuda.is_available())
    return any(not name.startswith("cpu") for name in keras.distribution.list_devices())
