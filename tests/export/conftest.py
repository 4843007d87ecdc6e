"""The zoo of exported models, made once for all workers of a test run."""

import fcntl
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export import zoo
from tests.export.native_calls import Answers, answer, answer_natively
from tfpqn.export import save_searcher
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder for all workers, which each have a temporary folder of their own."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "zoo"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def exported(zoo_folder: Path) -> Callable[[str], Path]:
    """The version folder of a kind of model; tests must not change it."""

    @functools.cache
    def export(kind: str) -> Path:
        path = zoo_folder / kind.replace(" ", "-") / "3"
        path.parent.mkdir(exist_ok=True)
        with (path.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                save_searcher(zoo.make_zoo_searcher(kind), path, metrics=zoo.METRICS)
        return path

    return export


@pytest.fixture(scope="session")
def answers(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Answers]:
    """What a reader answers to the calls and the bad inputs of a kind of model."""

    @functools.cache
    def answers_of(kind: str, reader: str) -> Answers:
        model, path = zoo.make_model(kind), exported(kind)
        calls = {**zoo.make_calls(model), **zoo.make_other_calls(model)}
        calls |= {("bad", name): bad.call for name, bad in zoo.bad_inputs(model).items()}
        if reader == "C API":
            return answer_natively([(path, calls)], tmp_path_factory.mktemp("calls"))[0]
        loader = {"saved model": SavedModelLoader, "session": SessionLoader}[reader]
        with loader(path) as loaded:
            return answer(loaded, calls)

    return answers_of
