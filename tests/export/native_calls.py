"""Calls of exported models, also through TensorFlow's C API without XLA, as the stock server does.

Those run in a process of their own, because switching XLA off cannot be undone.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfpqn.export.interface.signatures import Signature
from tfpqn.export.loading.loaders import ServedModel, StatusError
from tfpqn.export.loading.native_loader import NativeLoader

PROGRAM = "import sys; from tests.export.native_calls import main; main(*sys.argv[1:])"


class Call(NamedTuple):
    """One run of one signature."""

    signature: str
    inputs: dict[str, Any]


class Refusal(NamedTuple):
    """What was said instead of an answer; the code is TensorFlow's, or "ValueError"."""

    code: str
    message: str


class Answers(NamedTuple):
    """A model's signatures, and its answers under the names of the calls."""

    signatures: dict[str, Signature]
    results: dict[Any, dict[str, np.ndarray] | Refusal]


def answer(model: ServedModel, calls: dict[Any, Call]) -> Answers:
    return Answers(model.signatures, {name: _answer(model, calls[name]) for name in calls})


def _answer(model: ServedModel, call: Call) -> dict[str, np.ndarray] | Refusal:
    try:
        return model.run(call.signature, call.inputs)
    except StatusError as error:
        return Refusal(error.code, error.message)
    except ValueError as error:
        return Refusal("ValueError", str(error))


def answer_natively(
    models: Sequence[tuple[Any, dict[Any, Call]]], work_folder: Path
) -> list[Answers]:
    """Answer calls of folders, in one process of its own."""
    requests, answers = work_folder / "requests", work_folder / "answers"
    requests.write_bytes(pickle.dumps([(str(path), calls) for path, calls in models]))
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(requests), str(answers)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return pickle.loads(answers.read_bytes())


def main(requests: str, answers: str) -> None:
    """What the process of its own does."""
    results = []
    for folder, calls in pickle.loads(Path(requests).read_bytes()):
        with NativeLoader(folder) as model:
            results.append(answer(model, calls))
    Path(answers).write_bytes(pickle.dumps(results))
