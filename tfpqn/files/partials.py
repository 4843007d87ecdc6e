"""Hidden siblings in which a file or folder is written, and what killed processes left of them.

A sibling is called `.{name}.partial-{pid}-{random}` and is locked while somebody writes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tfpqn.files.locks import try_lock

__all__ = ["remove", "sibling", "temporary", "tidy_siblings"]

_PARTIAL = re.compile(r"\..+\.partial-[0-9]+-[0-9a-f]+")


def sibling(target: Path, kind: str) -> Path:
    """Returns a free hidden path beside `target`."""
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Makes a sibling, locked while the block runs, and removes what is left of it at the end."""
    path, descriptor = _make_locked(target, make)
    try:
        yield path
    finally:
        remove(path)
        if descriptor is not None:
            os.close(descriptor)


def _make_locked(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    while True:
        path = sibling(target, "partial")
        make(path)
        if sys.platform == "win32":  # There an open file cannot be renamed.
            return path, None
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            if try_lock(descriptor) is not False and path.exists():
                return path, descriptor
            os.close(descriptor)
        # Another writer took it for abandoned, between its making and its locking.


def tidy_siblings(folder: Path) -> None:
    """Removes what killed processes left of writes into `folder`, where the system has locks.

    Whoever works on such a sibling holds it locked.
    """
    if sys.platform == "win32":
        return
    for path in list(folder.iterdir()):
        if _PARTIAL.fullmatch(path.name) is None or not (path.is_dir() or path.is_file()):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if try_lock(descriptor):
                    remove(path)
            finally:
                os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file or a folder with all it holds, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
