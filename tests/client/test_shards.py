"""Clients of shards: one answer, as of one index; what they do without some servers."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.client.fake_shards import EXPORT, TOP_K, WIDTH, Items
from tests.export.tiny import FLOOR_SCORE
from tfpqn.export import SearchResult
from tfpqn.export.client import (
    AsyncShardedSearchClient,
    ServingError,
    ShardedSearchClient,
)
from tfpqn.export.client.shards.merging import merge_results
from tfpqn.export.client.shards.shard_servers import Versions

QUERIES = np.random.default_rng(0).integers(-1, 2, (7, WIDTH)).astype(np.float32)


def assert_found(found, version=1, without=(), num_shards=3):
    """What an index of all items finds, or of those in the other shards."""
    items = Items(version)
    kept = [items.part(n, num_shards) for n in range(num_shards) if n not in without]
    items.vectors = np.concatenate([part.vectors for part in kept])
    items.ids = np.concatenate([part.ids for part in kept])
    expected = items.search(QUERIES)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (found.version, found.missing_shards) == (version, tuple(without))


def find(scores, positions, top_k, id_type):
    """The best of one shard, by a loop: larger score first, then earlier position."""
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:top_k]
    num_missing = top_k - len(order)
    found = np.array([*scores[order], *[FLOOR_SCORE] * num_missing], np.float32)
    ids = [*positions[order].tolist(), *[-1] * num_missing]
    if id_type == "string":
        ids = np.array(["" if one < 0 else f"{one}" for one in ids], object)
    return SearchResult(np.array([ids]), found[np.newaxis], labels=np.array([ids]).astype(object))


@hypothesis.given(st.data(), st.integers(1, 6), st.sampled_from(["int64", "string"]))
def test_merged_shards_are_the_whole_ties_and_missing_places_included(data, top_k, id_type):
    few = st.sampled_from([-1.5, -0.0, 0.0, 2.0])
    scores = np.array(data.draw(st.lists(few, max_size=12)), np.float32)
    ends = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=3)))
    positions = np.arange(len(scores))
    parts = np.split(positions, ends)
    found = merge_results([find(scores[p], p, top_k, id_type) for p in parts], Versions(1))
    expected = find(scores, positions, top_k, id_type)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.matches is None


def test_shards_answer_as_one_index_and_a_client_may_wait_or_await(shards):
    group = shards()
    client = group.connect()
    assert_found(client.search_by_embedding(QUERIES))
    assert_found(client.search(QUERIES))
    assert client.search(QUERIES[:0]).ids.shape == (0, TOP_K)
    assert client.items().kind == "vectors"
    with pytest.raises(ValueError, match="'embeddings'.*finite"):
        client.search_by_embedding(QUERIES * np.nan)
    client.close()
    with pytest.raises(RuntimeError, match="client is closed"):
        client.items()

    client, model = group.connect(), group.models[0]
    model.gate.clear()
    num_searched = len(model.searched)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.search, QUERIES)
        while len(model.searched) == num_searched:
            time.sleep(0.001)
        client.close()
        with pytest.raises(RuntimeError, match="client is closed"):
            waiting.result(timeout=30)
    model.gate.set()

    async def search_twice():
        async with AsyncShardedSearchClient(group.addresses, "birds") as client:
            found = await asyncio.gather(*(client.search(QUERIES) for _ in range(2)))
        with pytest.raises(RuntimeError, match="client is closed"):
            await client.search(QUERIES)
        return found

    for found in asyncio.run(search_twice()):
        assert_found(found)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_dead_shard_is_an_error_or_named_beside_what_the_others_found(shards, is_known):
    group = shards()
    options = {"max_attempts": 1}
    strict, lenient = group.connect(**options), group.connect(allow_partial=True, **options)
    if is_known:
        assert_found(strict.search(QUERIES))
        assert_found(lenient.search(QUERIES))
    (dead,) = group.servers[1]
    dead.__exit__()
    for _ in range(2):
        with pytest.raises(ServingError, match=f"{dead.address} cannot be reached") as caught:
            strict.search(QUERIES)
        assert caught.value.code == "UNAVAILABLE"
        assert_found(lenient.search(QUERIES), without=[1])
    for (server,) in group.servers:
        server.__exit__()
    with pytest.raises(ServingError, match="cannot be reached"):
        lenient.search(QUERIES)


def test_a_silent_shard_is_waited_for_until_the_timeout(shards):
    group = shards()
    strict, lenient = (group.connect(timeout=0.7, allow_partial=own) for own in (False, True))
    group.models[2].gate.clear()
    (silent,) = group.servers[2]
    with ThreadPoolExecutor() as threads:
        found = threads.submit(lenient.search, QUERIES)
        with pytest.raises(
            ServingError, match=f"{silent.address} did not answer in time"
        ) as caught:
            strict.search(QUERIES)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert_found(found.result(), without=[2])


def test_where_a_server_is_silent_the_next_one_of_its_shard_is_asked(shards):
    group = shards(num_replicas=2)
    client = group.connect(hedge_after=0.01, timeout=60.0)
    silent = group.models[2]
    silent.gate.clear()
    group.models[1].gate.clear()
    for _ in range(4):
        assert_found(client.search(QUERIES))
    assert silent.searched, "the silent one was asked first at times"
    assert len(group.models[3].searched) == 4


def test_where_a_server_is_dead_the_next_one_of_its_shard_is_asked(shards):
    group = shards(num_replicas=2)
    client = group.connect(max_attempts=1)
    assert_found(client.search(QUERIES))
    for servers in group.servers:
        servers[0].__exit__()
    for _ in range(4):
        assert_found(client.search(QUERIES))


def test_all_shards_are_asked_for_the_newest_version_that_all_have(shards):
    group = shards(versions=(1, 2))
    group.models[1].versions = (1, 3)
    client = group.connect()
    assert_found(client.search(QUERIES), version=1)
    assert {version for model in group.models for version in model.searched} == {1}
    assert_found(group.connect(allow_partial=True).search(QUERIES), version=1)
    with pytest.raises(ServingError, match=r"have version 2. Received: .*shard 1 with \[1, 3\]"):
        group.connect(version=2, timeout=0.3).search(QUERIES)


def test_a_version_that_goes_away_is_left_by_all_shards_at_once(shards):
    group = shards()
    client = group.connect(timeout=60.0)
    stop = threading.Event()
    answers, errors = [], []

    def ask():
        while not stop.is_set():
            try:
                answers.append(client.search(QUERIES))
            except ServingError as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    # One after the other, each with a moment in which it has only the one or the other.
    for version in range(2, 5):
        for model in group.models:
            model.versions = (version,)
            threading.Event().wait(0.05)
    while not any(found.version == 4 for found in answers) and not errors:
        threading.Event().wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    for found in answers:
        assert_found(found, version=found.version)


def test_servers_that_do_not_hold_the_shards_of_one_export_are_refused(shards):
    group = shards()
    group.servers.reverse()
    words = r"localhost:\d+ must serve shard [02] of 3 .* Received: shard [02] of 3"
    with pytest.raises(ServingError, match=words) as caught:
        group.connect().search(QUERIES)
    assert caught.value.code == "FAILED_PRECONDITION"
    group.servers.reverse()
    group.models[1].describes["export_id"] = "fedcba"
    (other,) = group.servers[1]
    with pytest.raises(ServingError, match="shards of different exports, ") as caught:
        group.connect(allow_partial=True).search(QUERIES)
    assert f"fedcba at {other.address}" in caught.value.message
    right = [f"{EXPORT} at {server.address}" for (server,) in group.servers[::2]]
    assert any(words in caught.value.message for words in right)


def test_a_model_that_is_no_shard_is_refused(fakes):
    address = fakes["gRPC"].address
    client = ShardedSearchClient([address, address], "birds")
    words = f"{address}: .*'describe_shard', which `tfpqn export --shards`"
    with client, pytest.raises(ValueError, match=words):
        client.search_by_embedding(QUERIES)


def test_arguments_are_checked_before_anybody_is_asked():
    for error, words, shards, options in (
        (TypeError, "must be a list, an entry for each shard. Received: 'a:1'", "a:1", {}),
        (ValueError, r"at least one address for each shard. Received: \[\]", [], {}),
        (ValueError, "at least one address", ["a:1", []], {}),
        (ValueError, "address must be HOST:PORT. Received: 'a'", ["a:1", ["b:1", "a"]], {}),
        (ValueError, "hedge_after must be a number of seconds", ["a:1"], {"hedge_after": -1}),
        (ValueError, "asked by the version's number", ["a:1"], {"version_label": "stable"}),
    ):
        with pytest.raises(error, match=words):
            ShardedSearchClient(shards, "birds", **options)
