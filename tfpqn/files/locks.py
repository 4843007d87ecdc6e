"""One writer at a time: locks of the operating system, which end with the process that holds them.

A file system without locks keeps nobody out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["exclusive", "try_lock"]


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str], what: str, *, inside: bool = False) -> Iterator[None]:
    """Keeps every other process and thread from entering a block for the same folder.

    The lock is a small file that is removed at the end of the block; one that a killed process left
    behind does no harm, unless another user owns it and lets nobody read it. Entering the block
    twice is refused to the same thread, too.

    Args:
        folder: what is about to be written; it need not exist, its parent is made.
        what: what the error calls it, such as "index" or "run".
        inside: whether the lock is the file `.lock` in the folder, which is then made, rather than
            `.{name}.lock` beside it. A folder that is replaced as a whole has it beside.

    Raises:
        BlockingIOError: another writer is in the block.
        OSError: no file can be written there.
    """
    place = Path(os.path.realpath(folder))
    path = place / ".lock" if inside else place.with_name(f".{place.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path)
    except OSError as error:
        raise OSError(
            f"The {what} must lie where files can be written. "
            f"Received: {os.fspath(folder)!r} ({error.strerror})"
        ) from error
    if descriptor is None:
        raise BlockingIOError(
            f"The {what} must have one writer at a time. Received: {os.fspath(folder)!r}, which "
            "another process or thread is writing now; try again when it is done"
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file until it is closed, without waiting.

    Returns:
        Whether the lock is had; None where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN) else None
    return True


def _open_locked(path: Path) -> int | None:
    """Opens and locks a file; None if another holds it."""
    while True:
        descriptor = _open(path)
        if descriptor is None:
            return None
        if try_lock(descriptor) is False:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # The former holder removed it between the opening and the locking.


def _open(path: Path) -> int | None:
    """Opens a file, made if need be; None if it is another user's who lets nobody read it."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not os.path.exists(path):
            raise
    with contextlib.suppress(PermissionError):
        return os.open(path, os.O_RDONLY)  # Who may read a file can lock it.
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
