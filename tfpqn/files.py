"""Writing files and folders so that a reader never sees half of one.

Everything is first written to a hidden sibling, `.{name}.partial-{pid}-{random}`, forced to the
disk, and only then renamed into place. Whatever goes wrong before the rename (an exception, a full
disk, a SIGKILL) leaves the former version whole. Siblings that a killed process left behind are
removed by the next write to the same path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["atomic_directory", "sha256_of_file", "write_file_atomically"]

_HASH_BLOCK_BYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends without an exception.

    A folder that is overwritten is exchanged in one step where the system can do that (Linux);
    elsewhere it is moved aside first, and a process killed in that instant leaves it under
    `.{name}.former-...`, from where the next write to the path brings it back.

    Args:
        path: the folder to make; its parents are made as well. A symbolic link is followed.
        overwrite: whether an existing folder is replaced, with all that it holds.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set, on entry or at the end.
        NotADirectoryError: if `path` exists and is not a folder.
    """
    target = _resolve(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy_siblings(target)
    _require_replaceable(target, overwrite)
    temporary = _sibling(target, "partial")
    temporary.mkdir()
    try:
        with _locked(temporary):
            yield temporary
            _sync_tree(temporary)
            _put_in_place(temporary, target, overwrite)
    finally:
        _remove(temporary)


def write_file_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to the file `path` in one step: readers see the former bytes or the new ones.

    Args:
        path: the file to write, replaced if it is there; its parents are made as well.
        data: the whole content.

    Raises:
        OSError: if it cannot be written; the former version is then untouched.
    """
    target = _resolve(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy_siblings(target)
    temporary = _sibling(target, "partial")
    try:
        with open(temporary, "xb") as file, _locked(temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        _sync(target.parent)
    finally:
        _remove(temporary)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits, read block by block."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _resolve(path: str | os.PathLike[str]) -> Path:
    target = Path(os.path.realpath(path))
    if not target.name:
        raise ValueError(
            f"path must name a file or folder that can be replaced; expected something below "
            f"the root of the file system, got path={os.fspath(path)!r}."
        )
    return target


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _require_replaceable(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise NotADirectoryError(
            f"path must be a folder, or free for one to be made; got {str(target)!r}, "
            f"which is there and is not a folder."
        )
    if not overwrite:
        raise FileExistsError(
            f"path must be free unless overwrite=True is given; got {str(target)!r}, "
            f"which exists already."
        )


def _put_in_place(temporary: Path, target: Path, overwrite: bool) -> None:
    _require_replaceable(target, overwrite)
    if overwrite and target.exists():
        _exchange(temporary, target)
    elif not _rename_with_flag(temporary, target, _RENAME_NOREPLACE):
        os.rename(temporary, target)
    _sync(target.parent)


def _exchange(temporary: Path, target: Path) -> None:
    """Swaps two folders; where that takes two renames, a failing second one is rolled back."""
    if _rename_with_flag(temporary, target, _RENAME_EXCHANGE):
        return
    former = _sibling(target, "former")
    os.rename(target, former)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(former, target)
        raise
    _remove(former)


def _rename_with_flag(source: Path, target: Path, flag: int) -> bool:
    """Calls Linux' renameat2, or returns False where system or file system do not have it."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(source), os.fsencode(target)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(flag)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # Windows cannot open a folder, and keeps its entries safe itself.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _tidy_siblings(target: Path) -> None:
    """Clears what killed processes left of earlier writes to `target`."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(partial|former)-([0-9]+)-[0-9a-f]+")
    for sibling in list(target.parent.iterdir()):
        match = pattern.fullmatch(sibling.name)
        if match is None or not _is_abandoned(sibling, int(match[2])):
            continue
        if match[1] == "former" and not os.path.lexists(target):
            os.rename(sibling, target)
        else:
            _remove(sibling)


def _is_abandoned(path: Path, pid: int) -> bool:
    """True if no process of that id lives and none holds the path locked.

    The lock tells a writer in another container, whose process ids mean nothing here.
    """
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
        return False
    except (ProcessLookupError, OverflowError):
        pass
    except PermissionError:
        return False
    try:
        with _locked(path) as locked:
            return locked
    except OSError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Holds an advisory lock on a file or folder; yields whether it was to be had."""
    if sys.platform == "win32":
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A file system without locks leaves only the process id to go by.
            return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)
    return True
