"""Reading an index in one state, though others may replace it meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfpqn.index.manifest import MANIFEST_NAME, Manifest, describe_index
from tfpqn.index.parts import read_all_tables

_MAX_TRIES = 10

_Result = TypeVar("_Result")


def read_one_state(folder: Path, read: Callable[[Manifest], _Result]) -> _Result:
    """What `read` gives of the index that a manifest describes.

    A folder is replaced as a whole, and a part is opened once and compared with its checksum. So
    what is read is of one state; what fails because the folder was replaced is tried again.

    Raises:
        BlockingIOError: It is replaced again and again.
        FileNotFoundError: The manifest or a part is missing.
        ValueError: The manifest or a part is torn, changed or foreign.
    """
    for _ in range(_MAX_TRIES):
        stamp = _stamp(folder)
        try:
            return read(describe_index(folder))
        except (FileNotFoundError, ValueError):
            if stamp == _stamp(folder):
                raise
    raise BlockingIOError(
        "An index must stay as it is while it is read. Received: "
        f"{folder}, replaced during each of {_MAX_TRIES} tries"
    )


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """The marks that tell the file of a manifest from any other; None where there is none."""
    try:
        status = os.stat(folder / MANIFEST_NAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_labels(folder: Path) -> dict[str, int]:
    """The number in the column `label` of each name in `label_name`, in order of number.

    The caller holds the lock of the index, which has these columns.

    Raises:
        ValueError: A part is torn or foreign.
    """
    columns = ["label", "label_name"]
    pairs: set[tuple[int, str]] = set()
    for table in read_all_tables(folder, describe_index(folder), columns):
        rows = table.group_by(columns).aggregate([]).to_pylist()
        pairs.update((row["label"], row["label_name"]) for row in rows)
    # Where a name has several numbers, the smallest counts.
    known = (pair for pair in pairs if None not in pair)
    return {name: number for number, name in sorted(known, reverse=True)}
