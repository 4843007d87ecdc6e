"""Tiny exported models, and servers of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.export.tiny import make_ids, make_index, make_network, make_searcher
from tests.serving.calls import Caller
from tfpqn.export import SavedSearcher, load_searcher, save_searcher
from tfpqn.export.model.batching_parameters import BatchingParameters
from tfpqn.export.server import ModelServer, running_server

POLL_SECONDS = 0.05
MAX_BYTES = 2**20


class Model(NamedTuple):
    """An exported model: its folder, its only version, its ids and a reader of its own."""

    folder: Path
    version: Path
    ids: Any
    searcher: SavedSearcher


class Served(NamedTuple):
    """A running server and a channel to it."""

    server: ModelServer
    caller: Caller
    model: Model

    @property
    def name(self) -> str:
        return self.model.folder.name


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Model]:
    """A model by its type of ids; that of strings has lists."""
    network = make_network()
    found = {}
    for id_type, options in (("int64", {}), ("string", {"partition": 6, "num_probes": 2})):
        folder = tmp_path_factory.mktemp("models") / f"birds-{id_type}"
        searcher = make_searcher(network, make_index(network, id_type), **options)
        version = save_searcher(searcher, folder / "1")
        found[id_type] = Model(folder, version, make_ids(id_type), load_searcher(version))
    return found


def serve(model: Model, **options: Any) -> Iterator[Served]:
    options = {"port": 0, "rest_api_port": 0, "file_system_poll_wait_seconds": 0.5, **options}
    with running_server(model.folder, **options) as server, Caller(server.port) as caller:
        yield Served(server, caller, model)


@pytest.fixture(scope="session", params=("int64", "string"))
def served(request, models) -> Iterator[Served]:
    yield from serve(models[request.param])


@pytest.fixture(scope="session")
def plain(models) -> Iterator[Served]:
    """Without batching, with small messages and a name of its own."""
    yield from serve(models["int64"], max_message_bytes=MAX_BYTES, allowed_hosts=["birds.example"])


@pytest.fixture(scope="session")
def batched(models) -> Iterator[Served]:
    parameters = BatchingParameters(
        max_batch_size=16, batch_timeout_micros=5000, allowed_batch_sizes=(2, 4, 8, 16)
    )
    yield from serve(models["int64"], batching=parameters)


@pytest.fixture
def own_folder(models, tmp_path) -> Model:
    """A copy of the model that the test may change."""
    model = models["int64"]
    folder = tmp_path / "birds"
    shutil.copytree(model.folder, folder)
    return model._replace(folder=folder, version=folder / "1")
