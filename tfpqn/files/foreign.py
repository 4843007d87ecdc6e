"""Reading files that others may have written, damaged or forged: any fault becomes one sentence."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["read_json", "reading", "require_file", "require_within"]

_LONGEST_REASON = 300


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], expected: str) -> Iterator[None]:
    """Turns whatever a library raises at a torn or foreign file into a ValueError that names it.

    Errors of the file system that name their file pass as they are, as do a ValueError that names
    `path` already and a dependency that is missing. Only the reading belongs into the block: what
    else fails there would be laid to the file.

    Args:
        path: the file or folder that is read.
        expected: what it should be, such as "the configuration of a run".

    Raises:
        ValueError: the block raised any other exception.
    """
    try:
        yield
    # Parsers raise nearly every type: KeyError, RecursionError, MemoryError, struct.error, ...
    except Exception as error:
        if _is_clear(error, os.fspath(path)):
            raise
        reason = " ".join(str(error).split())
        if not reason or not isinstance(error, (OSError, TypeError, ValueError)):
            reason = f"{type(error).__name__} {reason}".rstrip()
        raise ValueError(
            f"{os.fspath(path)!r} must be {expected}, whole and unchanged. "
            f"Received: {reason[:_LONGEST_REASON]}"
        ) from error


def require_file(path: Path, name: str, suffixes: Sequence[str]) -> None:
    """Refuse what is no file, or has another suffix, before it is opened.

    Args:
        path: the file.
        name: what it is, for the error.
        suffixes: those that it may have, in lower case.

    Raises:
        FileNotFoundError: it is no file.
        ValueError: it has another suffix.
    """
    if not path.is_file():
        received = "a folder" if path.is_dir() else "which does not exist"
        raise FileNotFoundError(f"{name} must be a file. Received: {str(path)!r}, {received}")
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"The file's name must end in one of {', '.join(suffixes)}. Received: {str(path)!r}"
        )


def read_json(path: str | os.PathLike[str], expected: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object, with finite numbers only.

    Args:
        path: the file.
        expected: what it should be, for the error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is torn, holds something else, or nests too deeply.
    """
    with reading(path, expected):
        content = json.loads(Path(path).read_bytes(), parse_float=_finite, parse_constant=_finite)
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__}, not an object")
        return content


def require_within(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Raises ValueError if a symbolic link leads from `path` to a place outside `folder`."""
    if not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(
            f"What belongs to {os.fspath(folder)!r} must lie within it. "
            f"Received: {os.fspath(path)!r}, a link that leads out of it"
        )


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return number


def _is_clear(error: Exception, path: str) -> bool:
    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, ImportError) or (isinstance(error, ValueError) and path in str(error))
