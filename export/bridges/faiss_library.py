"""FAISS, which only the extra `faiss` brings, and what writer and reader both need of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tfpqn._extras import import_extra

# Codes that are packed or unpacked at once.
ROWS_PER_BLOCK = 2**18


def import_faiss() -> ModuleType:
    """FAISS.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    return import_extra("faiss", "faiss", "The bridge to FAISS needs FAISS")


def set_vector(target: Any, values: np.ndarray) -> None:
    """Copy float32 values of any shape into one of FAISS' vectors."""
    flat = np.ascontiguousarray(values, np.float32).ravel()
    import_faiss().copy_array_to_vector(flat, target)
