"""Tiny exported models and running servers of them, shared by the tests of server and client.

A plugin of pytest, see `tests/conftest.py`: what takes long is imported by the fixtures.
"""

import json
import shutil
from typing import Any, NamedTuple

import pytest

POLL_SECONDS = 0.05
MAX_BYTES = 2**20


class Served(NamedTuple):
    """A running server, a channel to it and the model that it serves."""

    server: Any
    caller: Any
    model: Any

    @property
    def name(self) -> str:
        return self.model.name


def serve(model: Any, **options: Any) -> Any:
    from tests.serving.calls import Caller
    from tfpqn.export.server import running_server

    options = {"port": 0, "rest_api_port": 0, "file_system_poll_wait_seconds": 0.5, **options}
    with running_server(model.folder, **options) as server, Caller(server.port) as caller:
        yield Served(server, caller, model)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`images` has int64 ids and tags, `clips` string ids and lists; tests must not change them."""
    from tests.serving.models import export_models

    return export_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def plain(models):
    """Images, without batching, with small messages and a name of its own."""
    yield from serve(models["images"], max_message_bytes=MAX_BYTES, allowed_hosts=["birds.example"])


@pytest.fixture(scope="session")
def batched(models):
    """Clips, with batching."""
    from tfpqn.export import BatchingParameters

    parameters = BatchingParameters(max_batch_size=16, batch_timeout_micros=5000)
    yield from serve(models["clips"], batching=parameters)


@pytest.fixture
def own_folder(models, tmp_path):
    """A copy of the model of images that the test may change, without warm-up requests."""
    folder = tmp_path / "birds"
    shutil.copytree(models["images"].folder, folder)
    drop_warmup(folder / "1")
    return models["images"]._replace(folder=folder, version=folder / "1")


def drop_warmup(version):
    """Take the warm-up requests out of a version folder, which is then loaded sooner."""
    shutil.rmtree(version / "assets.extra")
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    files = {n: f for n, f in manifest["files"].items() if not n.startswith("assets.extra")}
    path.write_text(json.dumps({**manifest, "files": files}))
