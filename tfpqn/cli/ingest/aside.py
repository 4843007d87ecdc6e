"""Work in a process beside this one; it imports Keras there, and not before."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import Any

from tfpqn._command_line import import_keras_quietly
from tfpqn.cli.shared import error_console, is_user_error, one_line


def start_aside(work: Callable[[Any], Any], argument: Any) -> SpawnProcess:
    """Start a process of low priority that does the work, and ends when this one does."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(work, argument), daemon=True)
    process.start()
    return process


def _run(work: Callable[[Any], Any], argument: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one.
    os.nice(10)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_keras_quietly()
    try:
        work(argument)
    except Exception as error:
        if not is_user_error(error):
            raise
        error_console.print(f"tfpqn: error: {one_line(error)}")
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
