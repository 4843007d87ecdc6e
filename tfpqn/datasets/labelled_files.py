"""Files below a folder, one subfolder per label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

# What systems and tools leave beside people's files; names that begin with a dot as well.
_SYSTEM_NAMES = frozenset(
    ("__MACOSX", "__pycache__", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN")
    + ("System Volume Information", "lost+found")
)


class EmptyFolderError(FileNotFoundError):
    """A folder holds none of the files that are looked for; they may come later."""


class LabelledFiles(NamedTuple):
    """Files with what their places say about them.

    Attributes:
        paths: The files: array `[num_files]` of `Path`.
        ids: Paths relative to the folder, with forward slashes: string array `[num_files]`.
        labels: int64 `[num_files]`; -1 for a file directly in the folder.
        label_names: Name of each label value: the sorted names of the subfolders.
        passed_over: What else there is: suffix of the files -> how many; so are broken links and
            folders that cannot be read.
    """

    paths: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    passed_over: Mapping[str, int]


def find_labelled_files(folder: Path, kind: str, suffixes: tuple[str, ...]) -> LabelledFiles:
    """All files below the folder that have one of the suffixes, sorted.

    Hidden files and folders are left out: names with a dot in front, and those that systems make.
    Links to files and folders are followed, out of the folder too, but for links to the folder
    itself and to those that hold it. Below one label no folder is read twice: no circle is endless.

    Args:
        folder: The folder.
        kind: What the files are, in the singular, for the messages.
        suffixes: Suffixes in lower case, with their dots.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no such file.
    """
    paths, passed_over = _find_files(folder, kind, suffixes)
    # A name that is not UTF-8 (old disks have such) could not be written into any report.
    ids = [
        os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
        for path in paths
    ]
    names = [id_.split("/")[0] if "/" in id_ else None for id_ in ids]
    label_names = tuple(sorted({name for name in names if name is not None}))
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(label_names)}
    labels = np.array([numbers.get(name, -1) for name in names], dtype=np.int64)
    return LabelledFiles(
        np.array(paths, object), np.array(ids, object), labels, label_names, passed_over
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's own making."""
    return name.startswith(".") or name in _SYSTEM_NAMES


def describe_kinds(passed_over: Mapping[str, int]) -> str:
    """How many files of which kinds, the most frequent first: "10 .heic, 2 .txt"."""
    kinds = [f"{count:,} {kind}" for kind, count in Counter(passed_over).most_common()]
    return ", ".join(kinds[:10]) + (f" and {len(kinds) - 10:,} more kinds" if kinds[10:] else "")


def _find_files(
    folder: Path, kind: str, suffixes: tuple[str, ...]
) -> tuple[list[Path], Mapping[str, int]]:
    if not folder.is_dir():
        received = "a file" if folder.exists() else "which does not exist"
        raise FileNotFoundError(
            f"The {kind} folder must exist. Received: {str(folder)!r}, {received}"
        )
    passed_over: Counter[str] = Counter()
    files = []
    for file in _walk(folder, passed_over):
        suffix = file.suffix.lower()
        if not file.is_file():
            passed_over["broken links" if file.is_symlink() else "special files"] += 1
        elif suffix in suffixes:
            files.append(file)
        else:
            passed_over[suffix if suffix[1:].isalnum() else "without suffix"] += 1
    if not files:
        others = f" but {describe_kinds(passed_over)}" if passed_over else ""
        raise EmptyFolderError(
            f"The folder must hold {kind}s ({', '.join(suffixes)}), one subfolder per label. "
            f"Received: {str(folder)!r}, which holds none{others}"
        )
    return sorted(files), passed_over


def _walk(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    """Whatever is no folder, in no certain order."""

    def note(error: OSError) -> None:
        passed_over["unreadable folders"] += 1

    root = os.path.realpath(folder)
    seen: set[tuple[str, str]] = set()
    for place, folders, names in os.walk(folder, onerror=note, followlinks=True):
        label = Path(place).relative_to(folder).parts[:1]
        real = os.path.realpath(place)
        holds_root = os.path.commonpath([real, root]) == real
        if label and (holds_root or (label[0], real) in seen):
            folders.clear()
            continue
        seen.add((label[0] if label else "", real))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(place, name) for name in names if not is_hidden(name))
