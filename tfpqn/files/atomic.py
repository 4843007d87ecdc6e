"""Writing files and folders so that a reader never sees half of one.

Everything is first written to a hidden sibling, `.{name}.partial-{pid}-{random}`, forced to the
disk, and only then renamed into place. Whatever goes wrong before the rename (an exception, a full
disk, a SIGKILL) leaves the former version whole. Siblings that a killed process left behind are
removed by the next write beside them. What is replaced keeps its permissions.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from functools import reduce
from operator import and_
from pathlib import Path
from typing import BinaryIO

from tfpqn.files.partials import remove, sibling, temporary

__all__ = ["atomic_directory", "sha256_of", "sha256_of_file", "write_file_atomically"]

_HASH_BLOCK_BYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends without an exception.

    A folder that is overwritten is exchanged in one step where the system can do that (Linux);
    elsewhere it is moved aside first, and a process killed in that instant leaves it under
    `.{name}.former-...`.

    Args:
        path: the folder to make; its parents are made as well. A symbolic link is followed.
        overwrite: whether an existing folder is replaced, with all that it holds.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set, on entry or at the end.
        NotADirectoryError: if `path` exists and is not a folder.
    """
    target = Path(os.path.realpath(path))
    _require_replaceable(target, overwrite)
    # What is still to get the former permissions is for nobody else until then.
    mode = 0o700 if target.is_dir() else 0o777
    with temporary(target, lambda path: path.mkdir(mode)) as folder:
        yield folder
        for place, _, names in os.walk(folder):
            for entry in (*names, ""):
                _sync(Path(place, entry))
        _put_in_place(folder, target, overwrite)


def write_file_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to the file `path` in one step: readers see the former bytes or the new ones.

    Args:
        path: the file to write, replaced if it is there; its parents are made as well.
        data: the whole content.

    Raises:
        OSError: if it cannot be written; the former version is then untouched.
    """
    target = Path(os.path.realpath(path))
    former = target.stat() if target.is_file() else None
    with temporary(target, lambda path: path.touch(0o666 if former is None else 0o600)) as path:
        path.write_bytes(data)
        _sync(path)
        if former is not None:
            _give_access(path, former.st_mode, former.st_gid)
        os.replace(path, target)
    _sync(target.parent)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits, read block by block."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """Returns the SHA-256 of all bytes of an open file, and leaves it at its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _require_replaceable(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise NotADirectoryError(
            f"path must be a folder, or free for one. Received: {str(target)!r}, "
            "which is there and is not a folder"
        )
    if not overwrite:
        raise FileExistsError(
            f"path must be free unless overwrite=True is given. Received: {str(target)!r}, "
            "which exists already"
        )


def _put_in_place(temporary: Path, target: Path, overwrite: bool) -> None:
    _require_replaceable(target, overwrite)
    if overwrite and target.exists():
        _keep_access(temporary, target)
        if not _exchange(temporary, target):
            _move_aside(temporary, target)
    else:
        try:
            os.rename(temporary, target)
        except OSError:
            _require_replaceable(target, overwrite)  # another writer was faster
            raise
    _sync(target.parent)


def _move_aside(temporary: Path, target: Path) -> None:
    """Replaces a folder by two renames, the first of which is undone if the second fails."""
    former = sibling(target, "former")
    os.rename(target, former)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(former, target)
        raise
    remove(former)


def _exchange(temporary: Path, target: Path) -> bool:
    """Swaps two folders by Linux' renameat2; False where system or file system do not have it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(temporary), os.fsencode(target)
    flag = ctypes.c_uint(_RENAME_EXCHANGE)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(temporary), None, str(target))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_access(temporary: Path, target: Path) -> None:
    """Gives a folder that replaces another its permissions, and its files those in common there."""
    former = target.stat()
    modes = [path.stat().st_mode for path in target.rglob("*") if path.is_file()]
    # The folder comes last: nobody else should see files that are still open to all.
    for path in (*temporary.rglob("*"), temporary):
        if path.is_dir():
            _give_access(path, former.st_mode, former.st_gid)
        elif modes:
            _give_access(path, reduce(and_, modes), former.st_gid)


def _give_access(path: Path, mode: int, group: int) -> None:
    """Sets permissions and group; for another group than the wanted one there are none."""
    with contextlib.suppress(OSError):
        os.chown(path, -1, group)
    if path.stat().st_gid != group:
        mode &= ~stat.S_IRWXG
    # A link to another user's file has the right mode already, and only its owner may set one.
    if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(mode):
        os.chmod(path, stat.S_IMODE(mode))
