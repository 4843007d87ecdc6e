"""Files of vectors: .npy, .npz and Parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfpqn.datasets.vectors.columns import read_labels
from tfpqn.datasets.vectors.parquet import ParquetVectors
from tfpqn.datasets.vectors.vector_set import VectorSet
from tfpqn.files.foreign import reading, require_file
from tfpqn.files.npz import read_npz


def open_vectors(path: str | Path) -> VectorSet:
    """The vectors of a file.

    Args:
        path: `.npy` `[num_vectors, dim]`, which is memory-mapped; `.npz` with an array `vectors`
            and maybe `id` and `label`; or `.parquet`, see `ParquetVectors`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another kind of file or holds no vector, or its vectors are no real
            numbers, not finite or of a wrong shape; Python objects are never built.
    """
    path = Path(path)
    require_file(path, "Vectors", list(_OPENERS))
    try:
        vectors = _OPENERS[path.suffix.lower()](path)
        if not len(vectors):
            raise ValueError("it must hold at least one vector. Received: none")
        return vectors
    except (TypeError, ValueError) as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from error


def _open_npy(path: Path) -> VectorSet:
    with reading(path, "a .npy of plain numbers"):
        # Not by `np.load`, which takes other files for pickles, and advises to load them unsafely.
        vectors = np.lib.format.open_memmap(path, mode="r")
    return VectorSet(vectors)


def _open_npz(path: Path) -> VectorSet:
    arrays = read_npz(path, ["vectors"], ["id", "ids", "label", "labels"])
    labels = arrays.get("label", arrays.get("labels"))
    numbers, names = (None, ()) if labels is None else read_labels(labels)
    return VectorSet(arrays["vectors"], numbers, arrays.get("id", arrays.get("ids")), names)


_OPENERS: dict[str, Callable[[Path], VectorSet]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".parquet": ParquetVectors,
}
