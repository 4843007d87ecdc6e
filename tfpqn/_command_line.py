"""What the command line and a Python beside this one need before TensorFlow is imported."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


def printable(text: str) -> str:
    """The text in one line and as it can be shown: control characters are escaped.

    Ids and paths are of anyone's making, and a terminal obeys the characters that it is sent.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def quieten_tensorflow() -> None:
    """Let TensorFlow tell of faults by exceptions alone, unless the user has said otherwise.

    Without a GPU it reports as an error that there is none. To be called before it is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def own_python(program: str, *arguments: str) -> list[str]:
    """The command that runs a program in a Python beside this one, with the same packages.

    Nothing is imported from the current folder, which may hold anything, unless the package itself
    lies there: then it comes last.

    Args:
        program: Python source; finds the arguments in `sys.argv[1:]`.
        *arguments: Handed to it.
    """
    package = str(Path(__file__).resolve().parent.parent)
    path = [entry for entry in sys.path if entry and not _is_current_folder(Path(entry))]
    path += [package] if package not in path else []
    start = "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); "
    return [sys.executable, "-I", "-c", start + program, os.pathsep.join(path), *arguments]


def _is_current_folder(path: Path) -> bool:
    # Not by its name: a folder that was removed has none.
    return path.exists() and path.samefile(os.curdir)


def import_keras_quietly() -> None:
    """Import Keras and its backend without the backend's start-up notices on stderr.

    On a machine without a GPU TensorFlow prints several, before any log level applies, and an error
    of the command line should be one line. What was held back is shown only if the import ends with
    another error than ImportError.

    Raises:
        ImportError: The backend that KERAS_BACKEND names is unknown or not installed.
    """
    if "keras" in sys.modules:
        return
    warnings.formatwarning = _format_warning
    quieten_tensorflow()
    # TensorFlow has these kernels for all processors, but takes them by itself on a few alone.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Both say on stderr, in several lines, what comes as an error besides.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _stderr_held_back():
        try:
            import keras  # noqa: F401
        except (ImportError, ValueError) as error:
            raise ImportError(
                "Keras must have a backend that is installed: KERAS_BACKEND is tensorflow, jax or "
                f"torch. Received: {os.environ.get('KERAS_BACKEND')!r}: {error}"
            ) from error


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Shows what is written to stderr in the block only if that ends with an unexpected error."""
    if sys.stderr is None:
        # It was closed before Python began: there is nothing to hold back.
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except (ImportError, KeyboardInterrupt):
            raise
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """One line, without the place in the code, which says nothing to who runs a command."""
    return f"tfpqn: warning: {printable(' '.join(str(message).split()))}\n"
