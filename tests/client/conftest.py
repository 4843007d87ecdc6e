"""Small models that the fake servers serve."""

import pytest

from tests.client.fake_servers import FakeModel, GrpcServer
from tests.export.tiny import NUM_ITEMS, make_codes, make_ids, make_network, make_searcher
from tests.export.tiny_levels import make_clip_network
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, network_layout

LABELS = [number % 4 for number in range(NUM_ITEMS)]


@pytest.fixture(scope="session")
def searchers() -> dict[str, Searcher]:
    """`images` with int64 ids and tags, `clips` with string ids."""
    searchers = {}
    for name, id_type, network, tag_columns in (
        ("images", "int64", make_network(), ["label"]),
        ("clips", "string", make_clip_network(), []),
    ):
        codes, ids = make_codes(network), make_ids(id_type)
        index = CodeIndex(network_layout(network), codes, ids, {"label": LABELS})
        searchers[name] = make_searcher(network, index, tag_columns=tag_columns)
    return searchers


@pytest.fixture(scope="session")
def models(searchers) -> dict[str, FakeModel]:
    return {name: FakeModel(searcher) for name, searcher in searchers.items()}


@pytest.fixture
def server(models):
    """A server of gRPC on loopback that can be told to fail."""
    with GrpcServer(models) as server:
        yield server
