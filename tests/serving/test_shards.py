"""Shards on local servers: what they find together is what one index finds."""

import json
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.export.test_vectors import make_network as make_vector_network
from tests.export.tiny import make_images, make_network
from tests.serving.calls import Caller, assert_same, call_rest
from tests.serving.fixtures import POLL_SECONDS, drop_warmup
from tests.serving.models import make_codes, make_ids
from tfpqn.cli.query import query
from tfpqn.export import Searcher, SearchResult, save_shards
from tfpqn.export.client import ServingError, ShardedSearchClient
from tfpqn.export.server import running_router, running_server
from tfpqn.index import CodeIndex, CodeIndexWriter, network_layout

NUM_ITEMS, NUM_SHARDS, TOP_K = 50, 2, 6
VECTORS = np.random.default_rng(3).normal(size=(5, 8)).astype(np.float32)
IMAGES = make_images(5)
OPTIONS = {"top_k": TOP_K, "tag_columns": ["colour"], "label_column": "colour"}


def write_index(network, folder):
    """An index of several parts; half of its items tie, and one colour is in the last one alone."""
    codes, ids = make_codes(network, NUM_ITEMS), make_ids("string", NUM_ITEMS)
    colours = [["red", "blue"][n % 2] if n < 45 else "green" for n in range(NUM_ITEMS)]
    with CodeIndexWriter(folder, network_layout(network), rows_per_part=12) as writer:
        embeddings = np.asarray(network.quantizer.normalize(network.quantizer.decode(codes)))
        writer.append(codes, ids, {"colour": colours, "embedding": embeddings})
    return folder


def export(network, tmp_path, version=1, **options):
    index = write_index(network, tmp_path / "index")
    paths = save_shards(network, index, tmp_path / "birds" / str(version), NUM_SHARDS, **options)
    for path in paths:
        drop_warmup(path)
    return paths, Searcher(network, CodeIndex.load(index), **options)


def serve(stack, paths):
    """Addresses of servers of the models that hold these versions."""
    options = {"model_name": "birds", "port": 0, "rest_api_port": 0}
    options["file_system_poll_wait_seconds"] = POLL_SECONDS
    servers = [stack.enter_context(running_server(path.parent, **options)) for path in paths]
    return [f"127.0.0.1:{server.port}" for server in servers], servers


def assert_found(found, outputs):
    expected = SearchResult.from_outputs(outputs)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    if expected.labels is not None:
        np.testing.assert_array_equal(found.labels, expected.labels)


def assert_all_searches_are_the_same(client, searcher, items):
    packed = {searcher.items.input_name: searcher.items.pack(items)}
    embeddings = searcher.run("embed", packed)["embeddings"]
    np.testing.assert_array_equal(client.embed(items), embeddings)
    by_embedding = searcher.run("search_by_embedding", {"embeddings": embeddings})
    assert_found(client.search_by_embedding(embeddings), by_embedding)
    best = searcher.run("search", packed)
    assert_found(client.search(items), by_embedding if searcher.items.has_pixels else best)
    k = NUM_ITEMS - 1
    assert_found(client.search(items, k=k), searcher.run("search_k", {**packed, "k": np.int32(k)}))
    lists = {"exclude_ids": best["ids"][:, :3]}
    without = searcher.run("search_with_exclusions", {**packed, **lists})
    excluded = [[one.decode() for one in row] for row in lists["exclude_ids"]]
    assert_found(client.search(items, exclude_ids=excluded), without)
    tags = {"allow_tags": b"colour=green", "deny_tags": b"colour=red"}
    filled = {name: np.full((len(items), 1), tag, object) for name, tag in tags.items()}
    admitted = searcher.run("search_with_filters", {**packed, **filled})
    given = {name: [tag.decode()] for name, tag in tags.items()}
    assert_found(client.search(items, **given), admitted)
    with pytest.raises(ServingError, match="unknown tags.*colour=pink"):
        client.search(items, allow_tags=["colour=pink"])


@pytest.mark.slow
def test_shards_of_vectors_answer_as_one_index(tmp_path):
    options = {"top_k": TOP_K, "rerank": True, "num_candidates": NUM_ITEMS}
    paths, searcher = export(make_vector_network("cosine"), tmp_path, **options)
    with pytest.raises(FileExistsError, match=r"shard-0-of-2.*take the next number"):
        save_shards(None, tmp_path / "index", tmp_path / "birds" / "1", NUM_SHARDS)
    with pytest.raises(ValueError, match="num_shards=51, and an index of 50 items"):
        save_shards(None, tmp_path / "index", tmp_path / "birds" / "2", 51)
    with ExitStack() as stack:
        addresses, _ = serve(stack, paths)
        client = stack.enter_context(ShardedSearchClient(addresses, "birds", timeout=60.0))
        assert_found(client.search(VECTORS), searcher.run("search", {"embeddings": VECTORS}))
        assert_the_command_prints_the_same(addresses, searcher, tmp_path / "queries.npy")
        router = stack.enter_context(
            running_router(addresses, "birds", port=0, rest_api_port=0, timeout=60.0)
        )
        assert_a_router_answers_the_same(router, searcher)


def assert_a_router_answers_the_same(router, searcher):
    """As asked by whom knows nothing of shards."""
    inputs = {"embeddings": VECTORS}
    expected = searcher.run("search", inputs)
    body = {"inputs": VECTORS.tolist()}
    answer = call_rest(router.rest_port, "/v1/models/birds:predict", body).json()["outputs"]
    assert answer["ids"] == [[one.decode() for one in row] for row in expected["ids"].tolist()]
    np.testing.assert_array_equal(np.array(answer["scores"], np.float32), expected["scores"])
    with Caller(router.port) as caller:
        found = caller.predict("birds", "search_k", {**inputs, "k": np.int32(30)}, version=1)
        assert_same(found, searcher.run("search_k", {**inputs, "k": np.int32(30)}))
        codes = caller.predict("birds", "encode", inputs)
        assert_same(codes, searcher.run("encode", inputs))
        assert list(caller.status("birds")) == [1]
        with pytest.raises(grpc.RpcError, match="search_by_id.*not found"):
            caller.predict("birds", "search_by_id", {"item_ids": np.array([b"a"], object)})
        with pytest.raises(grpc.RpcError, match=r"Specific\(birds, 2\)"):
            caller.predict("birds", "search", inputs, version=2)


def assert_the_command_prints_the_same(addresses, searcher, file):
    np.save(file, VECTORS[:1])
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(query)
    arguments = ["--json", "--model", "birds", str(file)]
    for address in addresses:
        arguments += ["--address", f"{address},{address}"]
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert result.exception is None, result.exception
    (answer,) = json.loads(result.stdout)
    assert [neighbour["id"] for neighbour in answer["neighbours"]] == searcher(VECTORS[:1]).ids[
        0
    ].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_shards_answer_every_search_as_one_index(tmp_path, kind):
    network = make_network() if kind == "images" else make_vector_network("cosine")
    items = IMAGES if kind == "images" else VECTORS
    paths, searcher = export(network, tmp_path, **OPTIONS)
    with ExitStack() as stack:
        addresses, servers = serve(stack, paths)
        for rest in (False, True):
            own = [f"127.0.0.1:{server.rest_port}" for server in servers] if rest else addresses
            client = ShardedSearchClient(own, "birds", rest=rest, timeout=60.0)
            assert_all_searches_are_the_same(stack.enter_context(client), searcher, items)
