"""Reading `.npz` files that others may have written."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Names of arrays in an error.
_SHOWN = 10


def read_npz(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name; no Python object is ever built from it.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no `.npz`, holds Python objects, or lacks a required array.
    """
    if not zipfile.is_zipfile(path) and Path(path).is_file():
        # NumPy would take it for a pickle, and advise to load it unsafely.
        raise ValueError(f"{path} must be an .npz of plain arrays. Received: another kind of file")
    try:
        # Opened here, since NumPy leaves a file open that is no whole .npz.
        with open(path, "rb") as opened, np.load(opened) as file:
            present = file.files
            wanted = [name for name in (*required, *optional) if name in present]
            arrays = {name: file[name] for name in wanted}
    # NumPy says by many types that a file is another thing than its name promises.
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be an .npz of plain arrays. Received: {error}") from None
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
