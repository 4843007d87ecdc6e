"""Clients of a base and its delta: which versions they ask together, and what they hide."""

from contextlib import ExitStack

import numpy as np
import pytest

from tests.client.fake_servers import GrpcServer, Refused
from tests.client.fake_shards import TOP_K, WIDTH, Items, ShardModel
from tests.export.tiny import rank
from tfpqn.export.client import SearchClient, ServingError, ShardedSearchClient
from tfpqn.export.client.shards import shard_servers
from tfpqn.export.client.shards.hiding import leave_out
from tfpqn.export.interface.bounds import MAX_EXCLUSIONS, MAX_K
from tfpqn.export.server import running_router

QUERIES = np.random.default_rng(0).integers(-1, 2, (7, WIDTH)).astype(np.float32)
ITEMS = Items(1)
ITEMS.ids = np.arange(len(ITEMS.ids))
# By version: positions of a base's items; of a delta's items, its bases, and what it hides.
BASES = {1: range(20), 2: range(5, 25)}
DELTAS = {
    1: (range(20, 22), [b"1"], range(3)),
    2: (range(20, 28), [b"1", b"2"], range(5)),
    3: (range(25, 30), [b"2"], range(5, 7)),
}
# What base and delta are together, by the delta.
TOGETHER = {1: range(3, 22), 2: range(5, 28), 3: range(7, 30)}


def search(positions, embeddings, without=()):
    positions = np.setdiff1d(list(positions), list(without))
    part = Items.__new__(Items)
    part.vectors, part.ids, part.id_type = ITEMS.vectors[positions], positions, "int64"
    return rank(embeddings @ part.vectors.T, part, TOP_K)


class GrowingModel(ShardModel):
    """A base of one shard, or a delta."""

    def __init__(self, is_delta):
        super().__init__(0, 1)
        self.is_delta = is_delta

    def run(self, signature, version, inputs):
        if version not in self.versions:
            raise Refused("NOT_FOUND")
        if signature == "describe_shard":
            shard = {"number": 0, "num_shards": 1, "export_id": str(version).encode()}
            return {name: np.array([value]) for name, value in shard.items()}
        items, bases, hidden = DELTAS[version] if self.is_delta else (BASES[version], [], [])
        if signature == "describe_delta":
            return {"bases": np.array([bases], object), "hidden_ids": np.array([list(hidden)])}
        excluded = inputs.get("exclude_ids", np.zeros((len(QUERIES), 0), np.int64))
        if excluded.shape[1] > MAX_EXCLUSIONS:
            raise Refused("INVALID_ARGUMENT")
        found = search(items, inputs["embeddings"], excluded[0])
        return {"ids": found.ids, "scores": found.scores.astype(np.float32)}

    @property
    def definitions(self):
        import tensorflow as tf

        map_ = super().definitions
        for name in ("search", "search_by_embedding"):
            definition = map_.signature_def[name]
            wider = map_.signature_def[f"{name}_with_exclusions"]
            wider.CopyFrom(definition)
            wider.inputs["exclude_ids"].dtype = tf.int64.as_datatype_enum
            wider.inputs["exclude_ids"].tensor_shape.CopyFrom(
                tf.TensorShape([None, None]).as_proto()
            )
        delta = map_.signature_def["describe_delta"]
        delta.CopyFrom(map_.signature_def["describe_shard"])
        delta.outputs.clear()
        for name, dtype in (("bases", tf.string), ("hidden_ids", tf.int64)):
            delta.outputs[name].dtype = dtype.as_datatype_enum
            delta.outputs[name].tensor_shape.CopyFrom(tf.TensorShape([None, None]).as_proto())
        return map_


@pytest.fixture
def servers():
    """A server of the base and one of the delta."""
    with ExitStack() as stack:
        yield [stack.enter_context(GrpcServer(model=GrowingModel(kind))) for kind in (False, True)]


def connect(servers, **options):
    base, delta = (server.address for server in servers)
    return ShardedSearchClient([base], "birds", delta=delta, max_attempts=1, **options)


def assert_found(found):
    expected = search(TOGETHER[found.delta_version], QUERIES)
    np.testing.assert_array_equal(np.sort(found.ids), np.sort(expected.ids))
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_whatever_versions_servers_are_at_nothing_is_missing_or_double(servers, monkeypatch):
    """Versions are learnt before each request, so that each state of the servers is asked."""
    monkeypatch.setattr(shard_servers, "_STATUS_SECONDS", -1.0)
    base, delta = (server.model for server in servers)
    with connect(servers) as client:
        for bases, deltas, expected in (
            ((1,), (1,), (1, 1)),
            ((1,), (1, 2), (1, 2)),
            ((1,), (2,), (1, 2)),
            ((1, 2), (2,), (2, 2)),
            ((1, 2), (1,), (1, 1)),  # A delta that came later is not there yet.
            ((2,), (1, 2), (2, 2)),
            ((1, 2), (1, 2, 3), (2, 3)),
            ((1,), (2, 3), (1, 2)),
            ((2,), (3,), (2, 3)),
        ):
            base.versions, delta.versions = bases, deltas
            for found in (client.search(QUERIES), client.search_by_embedding(QUERIES)):
                assert (found.version, found.delta_version) == expected
                assert_found(found)


def test_a_version_that_goes_away_under_a_request_is_followed_by_the_next(servers):
    base, delta = (server.model for server in servers)
    with connect(servers) as client:
        assert_found(client.search(QUERIES))
        delta.versions = (2,)
        assert client.search(QUERIES).delta_version == 2
        base.versions = (2,)
        assert_found(client.search(QUERIES))
        delta.versions = (3,)
        found = client.search(QUERIES)
        assert (found.version, found.delta_version) == (2, 3)
        assert_found(found)


def test_where_base_and_delta_do_not_go_together_the_client_waits_and_says_so(servers):
    servers[0].model.versions = (2,)
    words = r"a delta that was made for it. Received: shard 0 with \[2\], the delta with \[1\]"
    with connect(servers, timeout=0.4) as client, pytest.raises(ServingError, match=words):
        client.search(QUERIES)


def test_without_the_delta_there_is_an_error_or_a_partial_answer(servers):
    servers[1].__exit__()
    with connect(servers) as client:
        with pytest.raises(ServingError, match=f"the delta: {servers[1].address}") as caught:
            client.search(QUERIES)
        assert caught.value.code == "UNAVAILABLE"
    with connect(servers, allow_partial=True) as client:
        found = client.search(QUERIES)
    assert (found.version, found.delta_version, found.missing_shards) == (1, None, (1,))
    np.testing.assert_array_equal(found.ids, search(BASES[1], QUERIES).ids)


def test_ids_of_the_caller_are_excluded_besides_the_hidden_ones(servers):
    with connect(servers) as client:
        found = client.search(QUERIES, exclude_ids=[4, 21])
    expected = search(TOGETHER[1], QUERIES, without=[4, 21])
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert not np.isin(found.ids, [4, 21, *DELTAS[1][2]]).any()


def test_no_more_items_are_asked_for_than_a_base_gives():
    values = {"embeddings": QUERIES, "k": MAX_K - 1}
    assert leave_out("search_k", values, [1, 2])[1]["k"] == MAX_K


def test_a_router_follows_the_delta(servers):
    base, delta = servers
    options = {"delta": delta.address, "port": 0, "rest_api_port": None, "max_attempts": 1}
    with running_router([base.address], "birds", **options) as router:
        with SearchClient(f"localhost:{router.port}", "birds") as client:
            for number in (1, 2):
                delta.model.versions = (number,)
                found = client.search(QUERIES)
                expected = search(TOGETHER[number], QUERIES)
                np.testing.assert_array_equal(found.scores, expected.scores)
            # Lists of so many are filled up to as many as a base takes.
            found = client.search(QUERIES, exclude_ids=[21, *range(100, 400)])
            expected = search(TOGETHER[2], QUERIES, without=[21])
            np.testing.assert_array_equal(found.scores, expected.scores)
            assert "search_by_embedding_with_exclusions" not in client.signatures()
