"""A model's folder on disk: its numbered versions, and whether one of them may be loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..loading.op_check import check_ops
from ..model.version_folder import VERSION, check_files, read_manifest

__all__ = ["check_version", "find_versions", "take_stamp"]

Stamp = tuple[tuple[str, int, int], ...]


def find_versions(base_path: Path) -> dict[int, Path]:
    """Numbered sub-folders of a model's folder, by number; all else is ignored."""
    folders: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if VERSION.fullmatch(entry.name) and entry.is_dir():
                folders.setdefault(int(entry.name), Path(entry.path))
    return folders


def take_stamp(folder: Path) -> Stamp:
    """Names, sizes and times of a folder's files: another stamp says that something changed."""
    found = []
    for path in _walk(folder):
        status = path.lstat()
        found.append((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def check_version(folder: Path, base_path: Path) -> dict[str, Any]:
    """Look a version folder over before it is loaded.

    Returns:
        Its manifest.

    Raises:
        FileNotFoundError: There is no manifest.
        ValueError: The folder or a file in it leads out of the model's folder, the manifest
            does not describe the files that are there, or the graph holds an op that
            the stock server lacks.
        OSError: A file cannot be read.
    """
    _require_within(folder, base_path.resolve())
    manifest = read_manifest(folder)
    check_files(folder, manifest.get("files", {}))
    check_ops(folder)
    return manifest


def _require_within(folder: Path, base_path: Path) -> None:
    for path in (folder, *_walk(folder)):
        if not path.resolve().is_relative_to(base_path):
            raise ValueError(
                "A version must lie within the model's folder, with all that belongs to it. "
                f"Received: {str(path)!r}, which leads out of it"
            )


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder; folders that are symbolic links are named and not entered."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)
