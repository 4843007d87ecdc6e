"""Laws of a machine with JAX and without TensorFlow: the commands train, go on and evaluate."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tfpqn
from tests.datasets.pictures import write_image
from tfpqn.training import Run

ROOT = Path(tfpqn.__file__).parent.parent
# Whatever asks for TensorFlow is told that there is none, and makes the process fail in the end:
# where it is installed nothing should ask for it either. Keras does when it saves a network.
PROLOGUE = """
    import sys
    import traceback

    class Absent:
        asked = []

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
                files = [frame.filename for frame in traceback.extract_stack()]
                if not any("saving" in file for file in files):
                    self.asked.append((name, files))
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Absent())
"""
COMMANDS = """
    from tfpqn.cli import main

    for line in sys.argv[1:]:
        sys.argv = ["tfpqn", *line.split()]
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
    if Absent.asked:
        sys.exit(f"asked for {Absent.asked}")
"""
TRAIN = "train --bits 16 --num-subspaces 4 --embedding-dim 16 --batch-size 128 --augment"


def start(script, *arguments):
    code = textwrap.dedent(PROLOGUE) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax") / "run"
    lines = (
        f"{TRAIN} --run-dir {folder} --epochs 3 --evaluate-every 2",
        f"evaluate --run-dir {folder}",
    )
    output = finish(start(COMMANDS, *lines))
    assert "Trained." in output
    return Run.open(folder)


@pytest.mark.slow
def test_digits_are_trained_on_and_evaluated_by_the_commands(run):
    history = run.read_history()
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert history[-1]["loss"] < history[0]["loss"]
    assert ["mAP" in epoch for epoch in history] == [False, True, False]
    metrics = run.read_metrics()
    assert metrics is not None
    assert metrics["mAP"] > 0.3


@pytest.mark.slow
def test_the_network_is_the_same_under_tensorflow(run):
    metrics = run.read_metrics()
    splits = run.load_splits()
    assert metrics is not None
    assert metrics["splits"] == splits.describe()
    found = tfpqn.training.evaluate(run.load_network(), splits)
    assert found["mAP"] == pytest.approx(metrics["mAP"], abs=1e-3)


def test_what_must_be_read_from_files_is_refused_in_one_line(tmp_path):
    for label in ("ant", "bee"):
        for number in range(2):
            write_image(tmp_path / "images" / label / f"{number}.png")
    process = start(COMMANDS, f"train --images {tmp_path / 'images'} --run-dir {tmp_path / 'run'}")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert "TensorFlow must be installed to read images and videos from files" in line
