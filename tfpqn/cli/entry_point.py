"""Entry point: runs a command, turns user errors into one line, and says that one was stopped."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from tfpqn._command_line import import_keras_quietly, printable
from tfpqn.cli.commands import app
from tfpqn.cli.shared import is_user_error, one_line

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Started again, these go on where they stopped.
RESUMABLE = {
    "train": "from the last checkpoint, if there is one",
    "demo": "from the last checkpoint, if there is one",
    "encode": "with the parts that are missing",
    "ingest": "from what is there",
}
# Asks a server, for which Keras need not be imported.
WITHOUT_KERAS = "query"


def main(command: typer.Typer | None = None) -> None:
    """Run a command line; exit with 0 only when it did what it says.

    A user error is one line on stderr and status 2. With TFPQN_TRACEBACK=1 it is shown in full. One
    that is stopped by Ctrl-C or SIGTERM says so, and how to go on where that can be; its status is
    128 and the signal's number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding lacks must not end a command after its work was done.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = command or app
    _import_keras_first(command)
    with _stopped_by_signals() as received:
        try:
            status = command(standalone_mode=False)
        except (Exception, KeyboardInterrupt) as error:
            if not received:
                if os.environ.get("TFPQN_TRACEBACK") or not is_user_error(error):
                    raise
                _say(f"error: {one_line(error)}")
                sys.exit(2)
            status = 128 + received[0]
    if received and status:
        _say(_describe_stop(signal.Signals(received[0])))
        sys.exit(128 + received[0])
    sys.exit(status or 0)


def _import_keras_first(app: Any) -> None:
    """Let each command begin with Keras, and help and errors of the options do without it."""
    for command in getattr(app, "registered_commands", ()):
        callback = command.callback
        if callback.__name__ != WITHOUT_KERAS and not hasattr(callback, "__wrapped__"):
            command.callback = _with_keras(callback)


def _with_keras(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(**options: Any) -> None:
        import_keras_quietly()
        command(**options)

    return run


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Makes each signal raise KeyboardInterrupt, and notes it: Typer turns that into an exit."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def stop_again(ignored: Any) -> None:
        """Raised where Python lets nothing out, as in a callback of its garbage collector."""
        if received and issubclass(ignored.exc_type, KeyboardInterrupt):
            threading.Timer(0.1, os.kill, (os.getpid(), received[0])).start()
        else:
            former_hook(ignored)

    former_hook, sys.unraisablehook = sys.unraisablehook, stop_again
    # Who starts a command in the background may have it ignore them.
    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    chosen = [number for number in STOP_SIGNALS if former[number] is not signal.SIG_IGN]
    for number in chosen:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        sys.unraisablehook = former_hook
        for number in chosen:
            signal.signal(number, former[number])


def _describe_stop(number: signal.Signals) -> str:
    sentence = f"stopped by {number.name}"
    if sys.argv[1:2] and sys.argv[1] in RESUMABLE:
        is_script = Path(sys.argv[0]).stem == "tfpqn"
        program = ["tfpqn"] if is_script else [sys.executable, "-m", "tfpqn"]
        command = shlex.join([*program, *sys.argv[1:]])
        sentence += f"; the same command goes on {RESUMABLE[sys.argv[1]]}: {command}"
    return sentence


def _say(sentence: str) -> None:
    sys.stderr.write(f"tfpqn: {printable(sentence)}\n")
