"""What every test stands on: the environment, the seeds and the hypothesis profile."""

import contextlib
import fcntl
import os
import sys

# Read once when TensorFlow, Keras and matplotlib are first imported: hence before all else.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import numpy as np
import pytest

SEED = 20180908
pytest_plugins = ["tests.serving.fixtures"]

# No deadline: the first call of a traced function may take seconds on a shared machine.
hypothesis.settings.register_profile("developer", deadline=None, max_examples=25)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("developer"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """The same folder for all workers, which each have a temporary folder of their own."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def one_worker(shared_folder):
    """A context that one worker is in at a time, of those that give the same name."""

    @contextlib.contextmanager
    def alone(name):
        with (shared_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    return alone


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def _seed_keras():
    """Seeds Keras, unless the test does without it: importing it takes seconds."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "utils"):
        keras.utils.set_random_seed(SEED)
