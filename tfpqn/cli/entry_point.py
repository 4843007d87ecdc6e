"""Entry point: runs a command and turns user errors into one line."""

from __future__ import annotations

import os
import sys

from tfpqn.cli.commands import app


def main() -> None:
    """Run the command line; exit with 0 only when it did what it says.

    A user error is one line on stderr and status 2. With TFPQN_TRACEBACK=1 it is shown in full.
    """
    try:
        status = app(standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("TFPQN_TRACEBACK") or not _is_user_error(error):
            raise
        sys.stderr.write(f"tfpqn: error: {_one_line(error)}\n")
        sys.exit(2)
    sys.exit(status or 0)


def _is_user_error(error: Exception) -> bool:
    """Whether the message alone says what to do: bad values, files, options, what is missing."""
    if isinstance(error, (ImportError, OSError, ValueError)) or hasattr(error, "format_message"):
        return True
    # Of TensorFlow's own, what a file or a request caused: its classes are known by their status.
    return getattr(error, "code", None) == "INVALID_ARGUMENT" or hasattr(error, "op")


def _one_line(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    message = format_message() if format_message else str(error)
    return " ".join(message.split()) or type(error).__name__
