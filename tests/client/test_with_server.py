"""The client and the local server: every signature, every way, one answer."""

from contextlib import ExitStack

import numpy as np
import pytest

from tests.client.ways import WAYS, open_client
from tests.serving.models import ITEMS
from tfpqn.export import SearchResult
from tfpqn.export.client import ServingError
from tfpqn.export.client.inputs import pack_lists
from tfpqn.items import items_of_kind

every_way = pytest.mark.parametrize("way", WAYS)
PHOTOS = ITEMS["images"]


@pytest.fixture
def ask(servers):
    with ExitStack() as stack:

        def open_one(way, name, **options):
            server = servers[name]
            port = server.rest_port if way.startswith("REST") else server.port
            client = open_client(way, f"127.0.0.1:{port}", name, timeout=60.0, **options)
            return stack.enter_context(client)

        yield open_one


def assert_same(received, expected):
    np.testing.assert_array_equal(received.ids, expected.ids)
    assert received.ids.dtype == expected.ids.dtype
    # The sums of a batch depend on its size in the last bit.
    np.testing.assert_allclose(received.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("way", "name"), [*zip(WAYS, ["images", "clips"] * 2, strict=True)])
def test_every_method_answers_as_the_saved_model(ask, models, way, name):
    client, searcher = ask(way, name, chunk_size=3), models[name].searcher
    items, ids = ITEMS[name], list(models[name].ids[:3])
    spec = items_of_kind(name)
    packed = {spec.input_name: spec.pack(items)}
    best = searcher(items)
    signature = searcher._model.signatures["search_with_exclusions"].inputs

    assert client.items() is spec
    assert client.signatures() == searcher._model.signatures
    assert_same(client.search(items), best)
    few = searcher.run("search_k", {**packed, "k": np.int32(3)})
    assert_same(client.search(items, k=3), SearchResult.from_outputs(few))
    lists = [row[:count].tolist() for count, row in enumerate(best.ids)]
    packed_lists = pack_lists("exclude_ids", lists, len(items), signature["exclude_ids"])
    others = searcher.run("search_with_exclusions", {**packed, "exclude_ids": packed_lists})
    assert_same(client.search(items, exclude_ids=lists), SearchResult.from_outputs(others))
    embeddings = searcher.run("embed", packed)["embeddings"]
    np.testing.assert_allclose(client.embed(items), embeddings, rtol=0, atol=1e-5)
    found = searcher.search_by_embedding(embeddings)
    assert_same(client.search_by_embedding(embeddings), found)
    assert_same(client.search_by_id(ids), searcher.search_by_id(ids))
    codes = searcher.run("encode", packed)["codes"]
    np.testing.assert_array_equal(client.encode(items), codes)
    decoded = searcher.run("decode", {"codes": codes})["embeddings"]
    np.testing.assert_allclose(client.decode(codes), decoded, atol=1e-6)
    default = client.predict("serving_default", packed)
    np.testing.assert_array_equal(default["ids"], searcher.run("search", packed)["ids"])
    assert client.search([], k=4).ids.shape == (0, 4)


@every_way
def test_tags_filter(ask, models, way):
    client, searcher = ask(way, "images"), models["images"].searcher
    tags = [np.full((5, 1), tag, object) for tag in (b"label=1", b"label=2")]
    inputs = {"images": np.array(PHOTOS, object), "allow_tags": tags[0], "deny_tags": tags[1]}
    expected = SearchResult.from_outputs(searcher.run("search_with_filters", inputs))
    assert_same(client.search(PHOTOS, allow_tags=["label=1"], deny_tags=["label=2"]), expected)
    lists = {"allow_tags": [["label=1"], ["label=2"]], "deny_tags": ["label=2"]}
    assert client.search(PHOTOS[:2], **lists).num_found.tolist() == [7, 0]
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*allow_tags: .*label=9"):
        client.search(PHOTOS[:1], allow_tags=["label=9"])


@every_way
def test_refusals_have_the_same_code_each_way_and_plain_words(ask, way):
    def refusal_of(client):
        with pytest.raises(ServingError) as error:
            client.search([PHOTOS[0][:60]])
        assert "{{" not in error.value.message and "[[" not in error.value.message
        return error.value.code

    assert refusal_of(ask(way, "images")) == "INVALID_ARGUMENT"
    unknown = ask(way, "images", version=7)
    assert refusal_of(unknown) == "NOT_FOUND"
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:\d+ has no such.*Specific\(images, 7\)"):
        unknown.embed(PHOTOS)
    assert refusal_of(ask(way, "images", version_label="none")) == "INVALID_ARGUMENT"


def test_what_is_wrong_is_refused_before_it_is_sent(ask):
    client = ask("gRPC", "images")
    for call, words in (
        (lambda: client.search([b"no image"]), "images: expected the bytes of"),
        (lambda: client.search([PHOTOS[0], b""]), "item 1"),
        (lambda: client.search_by_embedding(np.full((2, 16), np.nan)), "'embeddings'.*finite"),
        (lambda: client.search_by_embedding([[1e300] * 16]), "'embeddings'.*fit float32"),
        (lambda: client.search_by_embedding([1.0] * 16), r"\[any, 16\]. Received: \[16\]"),
        (lambda: client.decode([[0.5, 1, 1, 1]]), "'codes'.*Expected int32"),
        (lambda: client.search(PHOTOS, k=1.0), "'k'.*Expected int32"),
        (lambda: client.search([], k=3, exclude_ids=[1]), "search_k and search_with_exclusions"),
        (lambda: client.search(PHOTOS, exclude_ids=["a"]), "exclude_ids: expected whole"),
        (lambda: client.predict("search", {"image": PHOTOS}), r"must be \['images'\]"),
        (lambda: client.predict("look", {}), "must have the signature 'look'"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    with pytest.raises(ValueError, match="must have the signature 'search_with_filters'"):
        ask("gRPC", "clips").search(ITEMS["clips"], allow_tags=["label=1"])
