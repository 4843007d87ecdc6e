"""The router of shards: it follows their versions, and says which shard it waits for."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest

from tests.client.fake_servers import GrpcServer
from tests.client.fake_shards import WIDTH, Items
from tfpqn.export.client import SearchClient, ServingError
from tfpqn.export.client.shards import shard_servers
from tfpqn.export.server import running_router, shard_router

QUERIES = np.random.default_rng(0).integers(-1, 2, (7, WIDTH)).astype(np.float32)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(shard_router, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(shard_servers, "_DOWN_SECONDS", 0.05)


def test_a_router_goes_on_to_the_next_version_and_refuses_what_a_shard_does_not_answer(shards):
    group = shards()
    options = {"port": 0, "rest_api_port": None, "max_attempts": 1, "timeout": 60.0}
    with running_router(group.addresses, "birds", **options) as router:
        client = SearchClient(f"localhost:{router.port}", "birds", max_attempts=1)
        with client:
            for version in (1, 2):
                for model in group.models:
                    model.versions = (version,)
                while client.model_status()[0].version != version:
                    try:
                        client.search(QUERIES)
                    except ServingError as error:
                        assert "no longer served by every shard; ask again" in error.message
                expected = Items(version).search(QUERIES)
                np.testing.assert_array_equal(client.search(QUERIES).ids, expected.ids)
            (dead,) = group.servers[1]
            dead.__exit__()
            with pytest.raises(ServingError, match=f"{dead.address} cannot be reached"):
                client.search(QUERIES)


def test_a_router_waits_for_a_shard_that_is_not_there_yet_and_says_which(shards, caplog):
    group = shards()
    (late,) = group.servers[1]
    late.__exit__()
    options = {"port": 0, "rest_api_port": None, "max_attempts": 1, "timeout": 60.0}
    with running_router(group.addresses, "birds", **options) as router:
        assert not router.available_versions
        with SearchClient(f"localhost:{router.port}", "birds", max_attempts=1) as client:
            words = f"shard 1: {late.address} cannot be reached"
            assert words in caplog.text
            for ask in (lambda: client.search(QUERIES), client.model_status):
                with pytest.raises(ServingError, match=words) as caught:
                    ask()
                assert caught.value.code == "UNAVAILABLE"
            with GrpcServer(port=late.port, model=late.model) as back:
                while not router.available_versions:
                    threading.Event().wait(0.01)
                np.testing.assert_array_equal(
                    client.search(QUERIES).ids, Items(1).search(QUERIES).ids
                )
                assert [one.state for one in client.model_status()] == ["AVAILABLE"]
                back.__exit__()
                with pytest.raises(ServingError, match="cannot be reached"):
                    client.search(QUERIES)
                while (status := client.model_status()[0]).state == "AVAILABLE":
                    threading.Event().wait(0.01)
            assert (status.state, status.error_code) == ("LOADING", "UNAVAILABLE")
            assert words in status.error_message


def test_a_router_names_the_shard_that_is_gone_and_asks_it_again_when_it_is_back(shards):
    group = shards()
    options = {"port": 0, "rest_api_port": None, "max_attempts": 1, "timeout": 60.0}
    with ExitStack() as stack:
        router = stack.enter_context(running_router(group.addresses, "birds", **options))
        client = stack.enter_context(
            SearchClient(f"localhost:{router.port}", "birds", max_attempts=1)
        )
        (dead,) = group.servers[1]
        dead.__exit__()
        # The first request finds it dead; the later ones know.
        for words in ("", "shard 1: ", "shard 1: "):
            with pytest.raises(ServingError, match=f"{words}{dead.address} cannot be") as caught:
                client.search(QUERIES)
            assert caught.value.code == "UNAVAILABLE"
        stack.enter_context(GrpcServer(port=dead.port, model=dead.model))
        found = None
        while found is None:
            try:
                found = client.search(QUERIES)
            except ServingError as error:
                assert error.code == "UNAVAILABLE"
        np.testing.assert_array_equal(found.ids, Items(1).search(QUERIES).ids)
