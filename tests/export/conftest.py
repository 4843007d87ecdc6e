"""The zoo of exported models, made once for all tests."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export import zoo
from tests.export.native_calls import Answers, answer, answer_natively
from tfpqn.export import save_searcher
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The version folder of a kind of model; tests must not change it."""

    @functools.cache
    def export(kind: str) -> Path:
        path = tmp_path_factory.mktemp("zoo") / kind.replace(" ", "-") / "3"
        return save_searcher(zoo.make_zoo_searcher(kind), path, metrics=zoo.METRICS)

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
