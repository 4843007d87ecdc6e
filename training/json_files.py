"""JSON files of runs and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfpqn.files import write_file_atomically


def read_json(path: Path) -> Any:
    """The content of a file.

    Raises:
        ValueError: It is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} must be JSON. Received: {error}") from error


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Write a file in one step."""
    write_file_atomically(path, (json.dumps(content, indent=indent) + "\n").encode())
