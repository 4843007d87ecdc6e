"""The client and `tfpqn.export.server`: every signature, every way, one answer."""

from contextlib import ExitStack

import numpy as np
import pytest

from tests.client.test_client import ID_TYPES, ITEMS, assert_same
from tests.client.ways import WAYS, open_client
from tests.export.tiny import EMBEDDING_DIM, make_embeddings, make_ids
from tfpqn.export import SearchResult, load_searcher, save_searcher
from tfpqn.export.client import ServingError
from tfpqn.export.server import running_server
from tfpqn.items import items_of_kind

# Two models are saved, loaded and warmed up.
pytestmark = pytest.mark.slow

every_way = pytest.mark.parametrize("way", WAYS)
every_model = pytest.mark.parametrize("name", ["images", "clips"])


@pytest.fixture(scope="module")
def folder(searchers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name, searcher in searchers.items():
        save_searcher(searcher, folder / name / "1")
    return folder


@pytest.fixture(scope="module")
def saved(folder):
    return {name: load_searcher(folder / name / "1") for name in ("images", "clips")}


@pytest.fixture(scope="module")
def servers(folder):
    """Running servers by the name of their model."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running_server(folder / name, port=0, rest_api_port=0))
            for name in ("images", "clips")
        }


@pytest.fixture
def connect(servers):
    with ExitStack() as stack:

        def open_one(way, name, **options):
            server = servers[name]
            port = server.rest_port if way.startswith("REST") else server.port
            client = open_client(way, f"127.0.0.1:{port}", name, timeout=60.0, **options)
            return stack.enter_context(client)

        yield open_one


@every_way
@every_model
def test_every_signature_answers_as_the_saved_model(connect, saved, way, name):
    client, searcher = connect(way, name), saved[name]
    items, ids = ITEMS[name], make_ids(ID_TYPES[name])[:3].tolist()
    spec = items_of_kind(name)
    packed = {spec.input_name: spec.pack(items)}
    exclude = np.array([[id_.encode() if name == "clips" else id_ for id_ in ids]] * len(items))
    exclude = exclude.astype(object if name == "clips" else np.int64)

    def run(signature_name, **inputs):
        return SearchResult.from_outputs(searcher.run(signature_name, {**packed, **inputs}))

    assert_same(client.search(items), searcher(items))
    assert_same(client.search(items, k=3), run("search_k", k=np.int32(3)))
    assert_same(
        client.search(items, exclude_ids=ids), run("search_with_exclusions", exclude_ids=exclude)
    )
    embeddings = make_embeddings(3)
    assert_same(client.search_by_embedding(embeddings), searcher.search_by_embedding(embeddings))
    assert_same(client.search_by_id(ids), searcher.search_by_id(ids))
    embed = searcher.run("embed", packed)["embeddings"]
    np.testing.assert_allclose(client.embed(items), embed, rtol=0, atol=1e-5)
    codes = searcher.run("encode", packed)["codes"]
    np.testing.assert_array_equal(client.encode(items), codes)
    np.testing.assert_allclose(
        client.decode(codes), searcher.run("decode", {"codes": codes})["embeddings"], atol=1e-6
    )
    default = client.predict("serving_default", packed)
    np.testing.assert_array_equal(default["ids"], searcher.run("search", packed)["ids"])


@every_way
def test_tags_filter(connect, saved, way):
    client, searcher = connect(way, "images"), saved["images"]
    allow, deny = np.full((5, 1), b"label=1", object), np.full((5, 1), b"label=2", object)
    inputs = {"images": np.array(ITEMS["images"], object), "allow_tags": allow, "deny_tags": deny}
    expected = SearchResult.from_outputs(searcher.run("search_with_filters", inputs))
    received = client.search(ITEMS["images"], allow_tags=["label=1"], deny_tags=["label=2"])
    assert_same(received, expected)


@every_way
@every_model
def test_the_server_describes_the_model_as_it_was_saved(connect, saved, way, name):
    client = connect(way, name)
    assert client.signatures() == saved[name]._model.signatures
    assert client.model_status() == [(1, "AVAILABLE", "OK", "")]


@every_way
def test_refusals_have_the_same_code_each_way(connect, way):
    client = connect(way, "images")
    with pytest.raises(ServingError) as error:
        client.search([ITEMS["images"][0][:60]])
    assert error.value.code == "INVALID_ARGUMENT"
    with pytest.raises(ServingError) as error:
        client.predict(
            "search_by_embedding", {"embeddings": np.full((1, EMBEDDING_DIM), np.inf, np.float32)}
        )
    assert error.value.code == "INVALID_ARGUMENT"
    with pytest.raises(ServingError) as error:
        connect(way, "images", version=7).search(ITEMS["images"])
    assert error.value.code == "NOT_FOUND"
    with pytest.raises(ServingError) as error:
        connect(way, "images", version_label="none").search(ITEMS["images"])
    assert error.value.code in ("INVALID_ARGUMENT", "NOT_FOUND")
