"""Hidden siblings in which a file or folder is written, and what killed processes left of them.

A sibling is called `.{name}.partial-{pid}-{random}` and is locked while somebody writes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tfpqn.files.locks import try_lock

__all__ = ["remove", "sibling", "temporary"]

_PARTIAL = re.compile(r"\..+\.partial-[0-9]+-[0-9a-f]+")


def sibling(target: Path, kind: str) -> Path:
    """Returns a free hidden path beside `target`."""
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Makes a sibling, locked while the block runs, and removes what is left of it at the end.

    The parents of `target` are made as well, and the siblings of dead processes are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy(target.parent)
    path, descriptor = _make_locked(target, make)
    try:
        yield path
    finally:
        remove(path)
        os.close(descriptor)


def _make_locked(target: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    while True:
        path = sibling(target, "partial")
        make(path)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            if try_lock(descriptor) is not False and path.exists():
                return path, descriptor
            os.close(descriptor)
        # Another writer took it for abandoned, between its making and its locking.


def _tidy(folder: Path) -> None:
    """Removes siblings that nobody holds locked, where the file system has locks."""
    for path in list(folder.iterdir()):
        if _PARTIAL.fullmatch(path.name) and (path.is_dir() or path.is_file()):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                if try_lock(descriptor):
                    remove(path)
                os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file or a folder with all it holds, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
