"""Fake servers, and clients of them."""

from contextlib import ExitStack

import pytest

from tests.client.fake_servers import GrpcServer, RestWire
from tests.client.fake_shards import ShardModel
from tests.client.ways import open_client
from tfpqn.export.client import ShardedSearchClient


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


@pytest.fixture
def shards():
    """Starts servers of shards, so many of each, and opens clients of them all."""
    with ExitStack() as stack:

        class Shards:
            def __init__(self, num_shards=3, num_replicas=1, versions=(1,)):
                self.servers = [
                    [
                        stack.enter_context(
                            GrpcServer(model=ShardModel(number, num_shards, versions))
                        )
                        for _ in range(num_replicas)
                    ]
                    for number in range(num_shards)
                ]
                stack.callback(self.open_gates)
                self.models = [server.model for servers in self.servers for server in servers]

            @property
            def addresses(self):
                return [[server.address for server in servers] for servers in self.servers]

            def open_gates(self):
                for model in self.models:
                    model.gate.set()

            def connect(self, **options):
                client = ShardedSearchClient(self.addresses, "birds", **options)
                return stack.enter_context(client)

        yield Shards
