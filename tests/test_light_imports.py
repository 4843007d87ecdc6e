"""Who asks a server, or for help, does not wait for TensorFlow or Keras."""

import subprocess
import sys

import pytest

import tfpqn
import tfpqn.export
from tfpqn import _command_line

HEAVY = "sorted({'keras', 'tensorflow'} & __import__('sys').modules.keys())"
RUN = "import sys; sys.argv = ['tfpqn', *sys.argv[1:]]; from tfpqn.cli import main"


def run_python(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["tfpqn", "tfpqn.datasets", "tfpqn.export.client"])
def test_an_import_prints_nothing_and_brings_neither_keras_nor_tensorflow(name):
    done = run_python(f"import {name}; print({HEAVY})")
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("options", [["--version"], ["--help"], ["train", "--help"]], ids=str)
def test_help_and_version_come_without_keras(options):
    done = run_python(
        f"{RUN}; import atexit; atexit.register(lambda: print({HEAVY})); main()", *options
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("package", [tfpqn, tfpqn.export], ids=["tfpqn", "tfpqn.export"])
def test_every_public_name_is_there_when_it_is_first_used(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import tfpqn, keras", marks=pytest.mark.slow),
        pytest.param("import keras, tfpqn", marks=pytest.mark.slow),
        pytest.param("import tfpqn, keras; tfpqn.ops", marks=pytest.mark.slow),
        # A room brings Keras, or somebody only asks whether there is Keras.
        "from tfpqn.losses import AsymmetricTripletLoss; import keras",
        pytest.param("import tfpqn.ops, keras", marks=pytest.mark.slow),
        pytest.param(
            "import importlib.util, tfpqn; importlib.util.find_spec('keras'); import keras",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keras_finds_the_classes_of_a_saved_network(program):
    names = ["ProductQuantizationNetwork", "AsymmetricTripletLoss", "CodebookUsage"]
    found = f"map(keras.saving.get_registered_object, {[f'tfpqn>{name}' for name in names]})"
    run_python(f"{program}; assert all({found})")


def test_where_stderr_is_closed_nothing_is_held_back(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with _command_line._stderr_held_back():
        pass
