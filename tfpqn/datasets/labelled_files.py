"""Files below a folder, one subfolder per label."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np


class LabelledFiles(NamedTuple):
    """Files with what their places say about them.

    Attributes:
        paths: The files.
        ids: Paths relative to the folder, with forward slashes: string array `[num_files]`.
        labels: int64 `[num_files]`; -1 for a file directly in the folder.
        label_names: Name of each label value.
    """

    paths: list[Path]
    ids: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]

    def take(self, positions: np.ndarray) -> LabelledFiles:
        """The files at the given positions."""
        paths = [self.paths[position] for position in positions]
        return LabelledFiles(paths, self.ids[positions], self.labels[positions], self.label_names)


def find_labelled_files(
    folder: Path, kind: str, suffixes: tuple[str, ...], label_names: tuple[str, ...] | None
) -> LabelledFiles:
    """All files below the folder that have one of the suffixes, sorted.

    Args:
        folder: The folder.
        kind: What the files are, in the singular, for the messages.
        suffixes: Suffixes in lower case, with their dots.
        label_names: Names that fix the label numbers; the sorted names of the subfolders if None.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no such file.
        ValueError: A subfolder is not among `label_names`.
    """
    paths = _find_files(folder, kind, suffixes)
    # A name that is not UTF-8 (old disks have such) could not be written into any report.
    ids = [
        os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
        for path in paths
    ]
    names = [id_.split("/")[0] if "/" in id_ else None for id_ in ids]
    if label_names is None:
        label_names = tuple(sorted({name for name in names if name is not None}))
    unknown = sorted({name for name in names if name is not None} - set(label_names))
    if unknown:
        raise ValueError(
            f"Subfolders must be among the labels {list(label_names)}. Received: {unknown}"
        )
    numbers = {name: number for number, name in enumerate(label_names)}
    labels = np.array([numbers.get(n, -1) if n else -1 for n in names], dtype=np.int64)
    return LabelledFiles(paths, np.array(ids, dtype=object), labels, label_names)


def _find_files(folder: Path, kind: str, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"The {kind} folder must exist. Received: {str(folder)!r}")
    files = sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file()
    )
    if not files:
        raise FileNotFoundError(
            f"The folder must hold {kind}s ({', '.join(suffixes)}), one subfolder per label. "
            f"Received: {str(folder)!r}, which holds none"
        )
    return files
