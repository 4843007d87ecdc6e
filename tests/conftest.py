"""What every test stands on: the environment, the seeds and the hypothesis profile."""

import gc
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


# Files that share costly fixtures: one worker runs them all.
TOGETHER = {
    "cli": ("tests/cli/",),
    "servers": (
        "tests/serving/",
        "tests/client/test_with_server.py",
        "tests/client/test_query.py",
        "tests/page/test_page_in_browser.py",
    ),
    "folders": tuple(
        f"tests/export/test_{name}.py" for name in ("readers", "saved_model", "version_folder")
    ),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            groups = (group for group, places in TOGETHER.items() if file.startswith(places))
            return next(groups, file)

    return Scheduling(config, log)


def pytest_collection_finish():
    """What imports have made is not looked through again at each search for garbage."""
    gc.freeze()


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
