"""Reading `.npz` files that others may have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from tfpqn.files.foreign import reading

# Names of arrays in an error.
_SHOWN = 10


def read_npz(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name; no Python object is ever built from it.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no whole `.npz`, holds Python objects, or lacks a required array.
    """
    with reading(path, "an .npz of plain arrays"), open(path, "rb") as opened:
        # Not by `np.load`, which takes other files for pickles, and advises to load them unsafely.
        with NpzFile(opened) as file:
            present = file.files
            wanted = [name for name in (*required, *optional) if name in present]
            arrays = {name: file[name] for name in wanted}
    if missing := [name for name in required if name not in present]:
        raise ValueError(
            f"{path} must hold the arrays {_show(required)}. "
            f"Received: {_show(present)}, without {_show(missing)}"
        )
    return arrays


def _show(names: Sequence[str]) -> str:
    """The first names; a network has hundreds."""
    more = len(names) - _SHOWN
    return f"{list(names[:_SHOWN])}" + (f" and {more} more" if more > 0 else "")
