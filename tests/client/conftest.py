"""Fake servers, and clients of them."""

from contextlib import ExitStack

import pytest

from tests.client.fake_servers import GrpcServer, RestWire
from tests.client.ways import open_client


@pytest.fixture
def fakes():
    """A server of gRPC on loopback and one of REST without a network, which can be told to fail."""
    with GrpcServer() as server:
        yield {"gRPC": server, "REST": RestWire()}


@pytest.fixture
def fake_model(fakes):
    """The model at the end of a way."""
    return lambda way: fakes[way.split()[0]].model


@pytest.fixture
def connect(fakes):
    """Opens clients of the fake servers and closes them."""
    with ExitStack() as stack:

        def open_one(way, **options):
            wire = fakes["REST"] if way.startswith("REST") else None
            address = "localhost:1" if wire else fakes["gRPC"].address
            return stack.enter_context(open_client(way, address, wire=wire, **options))

        yield open_one


@pytest.fixture
def servers(plain, batched):
    """Running servers by the name of their model."""
    return {"images": plain.server, "clips": batched.server}
