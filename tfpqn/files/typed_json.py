"""JSON files that are written in one step, and whose values are checked when they are read."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

from tfpqn.files.atomic import write_file_atomically

__all__ = ["require_types", "write_json"]


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Write a file in one step."""
    write_file_atomically(path, (json.dumps(content, indent=indent) + "\n").encode())


def require_types(content: dict[str, Any], hints: dict[str, Any]) -> None:
    """Refuse values that JSON gives another type than is wanted; a whole number is a float too.

    Args:
        content: From a file; what `hints` does not name is not looked at.
        hints: Name -> type, several types as in `int | None`, or `tuple[int, ...]` for a list.

    Raises:
        ValueError: A value is of another type.
    """
    for name in content.keys() & hints.keys():
        hint = hints[name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if not any(_is_of(content[name], kind) for kind in kinds):
            wanted = getattr(hint, "__name__", str(hint)) if len(kinds) == 1 else str(hint)
            raise ValueError(f"{name}={content[name]!r}, which is not {wanted}")


def _is_of(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return isinstance(value, list) and all(_is_of(each, inner) for each in value)
    return type(value) is kind or kind is float and type(value) is int
