"""What must happen before TensorFlow is imported, when this process is the command line."""

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path


def is_command_line() -> bool:
    """Whether Python was started as `tfpqn` or `python -m tfpqn`."""
    return Path(sys.argv[0]).name == "tfpqn" or sys.orig_argv[1:3] == ["-m", "tfpqn"]


def import_keras_quietly() -> None:
    """Import Keras and its backend without the backend's start-up notices on stderr.

    On a machine without a GPU TensorFlow prints several, before any log level applies, and an error
    of the command line should be one line. If the import fails, that line says why, or for another
    reason than the backend what was held back is shown.
    """
    warnings.formatwarning = _format_warning
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow has these kernels for all processors, but takes them by itself on a few alone.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Both say on stderr, in several lines, what comes as an error besides.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            import keras  # noqa: F401
        except (ImportError, ValueError) as error:
            if os.environ.get("TFPQN_TRACEBACK"):
                raise
            message = (
                "tfpqn: error: Keras must have a backend that is installed: KERAS_BACKEND is "
                f"tensorflow, jax or torch. Received: {os.environ.get('KERAS_BACKEND')!r}: {error}"
            )
            os.write(stderr, f"{' '.join(message.split())}\n".encode())
            sys.exit(2)
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
    return f"tfpqn: warning: {' '.join(str(message).split())}\n"
