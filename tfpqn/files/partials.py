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

_SIBLING = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|former)-(?P<pid>[0-9]+)-[0-9a-f]+")


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


def tidy_siblings(target: Path) -> None:
    """Clears what killed processes left of earlier writes to `target`, or beside it."""
    if sys.platform == "win32":
        return
    for sibling in list(target.parent.iterdir()):
        match = _SIBLING.fullmatch(sibling.name)
        if match is None or not (sibling.is_dir() or sibling.is_file()):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(sibling, os.O_RDONLY)
            try:
                if _is_abandoned(descriptor, match, target):
                    _clear(sibling, match["kind"], target)
            finally:
                os.close(descriptor)


def _is_abandoned(descriptor: int, match: re.Match[str], target: Path) -> bool:
    """True if nobody works on a sibling, which is then locked against it.

    Who does so holds it locked. Where there are no locks, and for the folder that is moved aside
    for an instant, the process id must tell: only of writes to the same path, since it means
    nothing for a process on another machine.
    """
    locked = try_lock(descriptor)
    if match["kind"] == "partial" and locked is not None:
        return locked
    return match["name"] == target.name and locked is not False and not _is_alive(int(match["pid"]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _clear(sibling: Path, kind: str, target: Path) -> None:
    if kind == "former" and not os.path.lexists(target):
        os.rename(sibling, target)
    else:
        remove(sibling)


def remove(path: Path) -> None:
    """Removes a file or a folder with all it holds, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
