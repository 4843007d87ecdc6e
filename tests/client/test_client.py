"""When a client asks, when it asks again, and when it gives up; each way to a server."""

import asyncio
import socket
import threading
import time

import numpy as np
import pytest

from tests.client.fake_servers import NEWEST, GrpcServer
from tests.client.ways import WAYS, open_client
from tfpqn.export.client import AsyncSearchClient, SearchClient, ServingError

ROWS = np.arange(20.0).reshape(5, 4)

every_way = pytest.mark.parametrize("way", WAYS)
one_of_each = pytest.mark.parametrize("way", ["gRPC", "REST"])


def assert_found(result, embeddings=ROWS):
    np.testing.assert_array_equal(result.ids, embeddings[:, :3].astype(np.int64))
    np.testing.assert_array_equal(result.scores, embeddings[:, :3].astype(np.float32))
    assert (result.ids.dtype, result.scores.dtype) == (np.int64, np.float32)


@every_way
def test_many_rows_go_in_parts_and_come_back_in_order(connect, fake_model, way):
    assert_found(connect(way, chunk_size=2).search_by_embedding(ROWS))
    assert fake_model(way).asked == ["signatures", (2, ""), (2, ""), (1, "")]


@one_of_each
def test_signatures_are_asked_for_once_and_again_when_something_does_not_fit(
    connect, fake_model, way
):
    model, client = fake_model(way), connect(way)
    client.search_by_embedding(ROWS)
    client.search_by_embedding(ROWS)
    # The server goes on to another version.
    model.width = 5
    client.search_by_embedding(np.zeros((5, 5)))
    kinds = ["signatures", (5, ""), (5, ""), "signatures", (5, "")]
    assert model.asked == kinds
    with pytest.raises(ValueError, match=r"must have shape \[any, 5\]. Received: \[5, 4\]"):
        client.search_by_embedding(ROWS)
    assert model.asked == [*kinds, "signatures"]
    model.failures = ["INVALID_ARGUMENT"]
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: told to fail$"):
        client.search_by_embedding(np.zeros((5, 5)))
    client.search_by_embedding(np.zeros((5, 5)))
    assert model.asked[6:] == [(5, ""), "signatures", (5, "")]


@every_way
def test_an_unavailable_server_is_asked_again(connect, fake_model, way):
    fake_model(way).failures = ["UNAVAILABLE", "UNAVAILABLE", None, "UNAVAILABLE"]
    assert_found(connect(way).search_by_embedding(ROWS))
    assert len(fake_model(way).asked) == 5


@one_of_each
@pytest.mark.parametrize(
    ("code", "max_attempts", "num_asked"),
    [("INVALID_ARGUMENT", 5, 1), ("INTERNAL", 5, 1), ("UNAVAILABLE", 1, 1), ("UNAVAILABLE", 2, 2)],
)
def test_no_other_is_asked_again_and_the_attempts_end(
    connect, fake_model, way, code, max_attempts, num_asked
):
    fake_model(way).failures = [code] * 9
    with pytest.raises(ServingError, match="told to fail") as error:
        connect(way, max_attempts=max_attempts).model_status()
    assert error.value.code == code
    assert fake_model(way).asked == ["status"] * num_asked


@pytest.mark.parametrize("way", ["gRPC", "gRPC asyncio", "REST asyncio"])
def test_the_deadline_holds_over_all_parts_of_a_call(connect, fake_model, way):
    fake_model(way).seconds = 0.2
    began = time.monotonic()
    with pytest.raises(ServingError) as error:
        connect(way, timeout=0.5, chunk_size=1).search_by_embedding(ROWS)
    assert error.value.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 1
    assert len(fake_model(way).asked) <= 3


@every_way
def test_a_missing_server_is_named_with_its_address(way):
    with socket.create_server(("localhost", 0)) as found:
        address = f"localhost:{found.getsockname()[1]}"
    with open_client(way, address, max_attempts=2) as client:
        with pytest.raises(ServingError, match=f"{address} cannot be reached") as error:
            client.model_status()
    assert error.value.code == "UNAVAILABLE"


def test_a_server_that_comes_back_is_found_again():
    with GrpcServer() as first:
        port = first.port
        client = SearchClient(first.address, "birds", timeout=20.0)
        client.search_by_embedding(ROWS)
    second = GrpcServer(port=port)
    start = threading.Timer(0.3, second.__enter__)
    start.start()
    with client:
        assert_found(client.search_by_embedding(ROWS))
    start.join()
    second.__exit__()


@every_way
def test_token_and_metadata_go_with_each_request(connect, fake_model, way):
    connect(way, token="s3cret", metadata=[("x-tenant", "birds")]).search_by_embedding(ROWS)
    assert len(fake_model(way).metadata) == 2
    for metadata in fake_model(way).metadata:
        assert metadata["authorization"] == "Bearer s3cret"
        assert metadata["x-tenant"] == "birds"


@one_of_each
def test_a_version_is_asked_by_number_or_label(connect, fake_model, way):
    connect(way, version=NEWEST).search_by_embedding(ROWS)
    connect(way, version_label="a b").search_by_embedding(ROWS)
    assert fake_model(way).asked[1::2] == [(5, NEWEST), (5, "a b")]


@every_way
def test_the_status_names_each_version_and_why_one_failed(connect, way):
    first, *others = connect(way).model_status()
    assert first == (NEWEST, "AVAILABLE", "OK", "")
    if way.startswith("gRPC"):
        assert others == [(2, "END", "INVALID_ARGUMENT", "no graph")]


@one_of_each
def test_nothing_is_found_for_nothing_and_only_the_signatures_are_asked_for(
    connect, fake_model, way
):
    assert_found(connect(way).search_by_embedding(np.zeros((0, 4))), np.zeros((0, 4)))
    assert fake_model(way).asked == ["signatures"]


@one_of_each
def test_answers_that_change_their_shape_within_a_call_are_not_joined(connect, fake_model, way):
    model, client = fake_model(way), connect(way, chunk_size=2)
    search = model.search

    def search_less_each_time(embeddings):
        model.num_found -= 1
        return search(embeddings)

    model.search = search_less_each_time
    with pytest.raises(ServingError, match="changed while it was asked") as error:
        client.search_by_embedding(ROWS)
    assert error.value.code == "ABORTED"


@one_of_each
def test_requests_are_kept_below_the_size_of_a_message(connect, fake_model, way):
    fake_model(way).width = 400
    client = connect(way, max_message_bytes=16384)
    client.search_by_embedding(np.zeros((10, 400)))
    assert [rows for rows, _ in fake_model(way).asked[1:]] == [5, 5]
    with pytest.raises(ServingError) as error:
        connect(way, max_message_bytes=1024).search_by_embedding(np.ones((1, 400)))
    assert error.value.code == "RESOURCE_EXHAUSTED"


def test_a_client_of_one_version_leaves_the_connections_open():
    async def ask(address):
        async with AsyncSearchClient(address, "birds") as client:
            async with client.at_version(1) as pinned:
                await pinned.search_by_embedding(ROWS)
            return await client.search_by_embedding(ROWS)

    with GrpcServer() as server:
        assert_found(asyncio.run(ask(server.address)))


@every_way
def test_a_closed_client_says_so(way):
    with open_client(way, "localhost:1") as client:
        client.close()
        with pytest.raises(RuntimeError, match="The client is closed"):
            client.model_status()
