"""Clients and fake servers: whichever way it goes, the answers are those of the searcher."""

import asyncio
import socket
import threading
import time

import numpy as np
import pytest

from tests.client.conftest import LABELS
from tests.client.fake_servers import GrpcServer, RestWire
from tests.client.ways import WAYS, open_client
from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_CODEWORDS,
    NUM_SUBSPACES,
    TOP_K,
    make_embeddings,
    make_ids,
    make_images,
)
from tests.export.tiny_levels import encode_clips, make_clips
from tfpqn.export.client import AsyncSearchClient, SearchClient, ServingError
from tfpqn.items import CLIPS, IMAGES

PHOTOS = make_images(5)
# The model of clips has string ids, that of images int64.
ITEMS = {"images": PHOTOS, "clips": encode_clips(make_clips(4, 4, 3, 2, 4))}
ID_TYPES = {"images": "int64", "clips": "string"}

every_way = pytest.mark.parametrize("way", WAYS)
every_model = pytest.mark.parametrize("name", ["images", "clips"])


@pytest.fixture
def wire(models):
    return RestWire(models)


@pytest.fixture
def connect(server, wire):
    """Opens clients to the fake servers and closes them."""
    clients = []

    def open_one(way, name="images", **options):
        rest = way.startswith("REST")
        address = "localhost:1" if rest else server.address
        clients.append(open_client(way, address, name, wire if rest else None, **options))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture
def troubles(server, wire):
    """The troubles of the server that lies on a way."""
    return lambda way: (wire if way.startswith("REST") else server).troubles


@pytest.fixture
def asked(server, wire):
    """The versions that predictions asked for, on a way."""

    def read(way):
        if way.startswith("REST"):
            paths = [request.url.path for request in wire.requests if ":" in request.url.path]
            found = [path.partition(":")[0].split("/")[-2:] for path in paths]
            return [int(v) if kind == "versions" else v for kind, v in found]
        specs = [request.model_spec for request in server.predictions]
        return [spec.version.value or spec.version_label for spec in specs]

    return read


def assert_same(received, expected):
    np.testing.assert_array_equal(received.ids, expected.ids)
    assert received.ids.dtype == expected.ids.dtype
    assert received.scores.dtype == np.float32
    # The sums of a batch depend on its size in the last bit.
    np.testing.assert_allclose(received.scores, expected.scores, rtol=0, atol=1e-5)


@every_way
@every_model
def test_answers_are_those_of_the_searcher(connect, models, way, name):
    searcher, client = models[name].searcher, connect(way, name, chunk_size=2)
    assert_same(client.search(ITEMS[name]), searcher(ITEMS[name]))
    embeddings = make_embeddings(3)
    assert_same(client.search_by_embedding(embeddings), searcher.search_by_embedding(embeddings))
    ids = make_ids(ID_TYPES[name])[:3]
    assert_same(client.search_by_id(ids), searcher.search_by_id(ids))


@every_way
def test_the_client_knows_what_the_model_takes(connect, way):
    assert connect(way, "clips").items() is CLIPS
    assert connect(way, "images").items() is IMAGES


@every_way
def test_k_is_chosen_by_the_call(connect, models, way):
    model = models["images"]
    result = connect(way).search(PHOTOS, k=3)
    assert_same(result, type(result).from_outputs(
        model.run("search_k", {"images": np.array(PHOTOS, object), "k": np.int32(3)})
    ))  # fmt: skip
    assert result.ids.shape == (5, 3)


@every_way
@every_model
def test_excluded_ids_do_not_come(connect, models, way, name):
    client = connect(way, name)
    best = client.search(ITEMS[name])
    lists = [row[:count].tolist() for count, row in enumerate(best.ids)]
    result = client.search(ITEMS[name], exclude_ids=lists)
    for row, excluded in enumerate(lists):
        assert not set(excluded) & set(result.ids[row])
        kept = best.ids[row, len(excluded) :]
        np.testing.assert_array_equal(result.ids[row, : len(kept)], kept)
    for_all = client.search(ITEMS[name], exclude_ids=best.ids[0])
    assert not set(best.ids[0]) & set(for_all.ids.flat)


@every_way
def test_tags_filter(connect, way):
    client = connect(way)
    label_of = dict(zip(make_ids("int64").tolist(), LABELS, strict=True))

    def labels(**filters):
        return {label_of[id_] for id_ in client.search(PHOTOS[:1], **filters).ids[0].tolist()}

    assert labels(allow_tags=["label=1"]) == {1}
    assert labels(allow_tags=[["label=1", "label=3"]], deny_tags=["label=1"]) == {3}
    assert 2 not in labels(deny_tags=[["label=2"]])
    tags = {"allow_tags": [["label=1"], ["label=2"]], "deny_tags": ["label=2"]}
    assert client.search(PHOTOS[:2], **tags).num_found.tolist() == [TOP_K, 0]
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*allow_tags: .*\[label=9\]"):
        client.search(PHOTOS[:1], allow_tags=["label=9"])


@every_way
def test_embed_encode_decode_are_those_of_the_searcher(connect, models, way):
    model, client = models["images"], connect(way, chunk_size=2)
    images = {"images": np.array(PHOTOS, object)}
    # A batch of two and one of five may be added up in different orders.
    embeddings = model.run("embed", images)["embeddings"]
    np.testing.assert_allclose(client.embed(PHOTOS), embeddings, rtol=0, atol=1e-6)
    codes = client.encode(PHOTOS)
    assert (codes.shape, codes.dtype) == ((5, NUM_SUBSPACES), np.int32)
    np.testing.assert_array_equal(codes, model.run("encode", images)["codes"])
    decoded = model.run("decode", {"codes": codes})["embeddings"]
    np.testing.assert_array_equal(client.decode(codes), decoded)


@every_way
@every_model
def test_predict_runs_any_signature_and_leaves_strings_as_bytes(connect, models, way, name):
    items = "images" if name == "images" else "frames"
    inputs = {items: (CLIPS if name == "clips" else IMAGES).pack(ITEMS[name])}
    received = connect(way, name).predict("serving_default", inputs)
    expected = models[name].run("serving_default", inputs)
    assert received.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_array_equal(received[output], values)


@every_way
def test_signatures_are_those_of_the_searcher(connect, models, way):
    expected = models["images"].signatures
    assert connect(way).signatures() == expected


@every_way
def test_the_status_names_each_version(connect, way):
    first = connect(way).model_status()[0]
    assert first == (2**40 + 1, "AVAILABLE", "OK", "")


def test_the_status_says_why_a_version_failed(connect):
    assert connect("gRPC").model_status()[1] == (2, "END", "INVALID_ARGUMENT", "no graph")


@every_way
@every_model
def test_nothing_is_found_for_nothing(connect, models, way, name):
    client = connect(way, name)
    assert_same(client.search([]), models[name].searcher([]))
    assert client.search([], k=4).ids.shape == (0, 4)
    assert client.search_by_embedding(np.zeros((0, EMBEDDING_DIM))).scores.shape == (0, TOP_K)
    assert client.embed([]).shape == (0, EMBEDDING_DIM)


@every_way
def test_an_unavailable_server_is_asked_again(connect, models, troubles, way):
    troubles(way).failures = ["UNAVAILABLE", "UNAVAILABLE", None, "UNAVAILABLE"]
    assert_same(connect(way).search(PHOTOS), models["images"].searcher(PHOTOS))
    assert len(troubles(way).metadata) == 5


@every_way
def test_a_refused_request_is_not_asked_again(connect, troubles, way):
    client = connect(way)
    client.search(PHOTOS)
    troubles(way).failures = ["INVALID_ARGUMENT"]
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: told to fail$"):
        client.search(PHOTOS)
    assert len(troubles(way).metadata) == 3


@every_way
def test_a_refusal_by_the_graph_is_told_in_plain_words(connect, way):
    cut = PHOTOS[0][: len(PHOTOS[0]) // 2]
    with pytest.raises(ServingError) as error:
        connect(way).search([cut])
    assert error.value.code == "INVALID_ARGUMENT"
    assert "{{" not in error.value.message and "[[" not in error.value.message


@every_way
def test_an_unknown_model_is_not_found(connect, way):
    with pytest.raises(ServingError) as error:
        connect(way, "fish").search(PHOTOS)
    assert error.value.code == "NOT_FOUND"


@pytest.mark.parametrize("way", ["gRPC", "gRPC asyncio"])
def test_a_call_ends_in_time_though_the_server_hangs(connect, troubles, way):
    client = connect(way, timeout=0.3)
    client.signatures()
    troubles(way).is_hanging = True
    with pytest.raises(ServingError) as error:
        client.search(PHOTOS)
    assert error.value.code == "DEADLINE_EXCEEDED"
    troubles(way).released.set()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@every_way
def test_a_missing_server_is_named_with_its_address(way):
    address = f"localhost:{free_port()}"
    with open_client(way, address, "images", max_attempts=2) as client:
        with pytest.raises(ServingError, match=f"{address} cannot be reached.*2 attempts") as error:
            client.search(PHOTOS)
    assert error.value.code == "UNAVAILABLE"


def test_a_server_that_comes_back_is_found_again(models):
    with GrpcServer(models) as first:
        port = first.port
        client = SearchClient(first.address, "images", timeout=20.0, max_attempts=20)
        client.search(PHOTOS)
    second = GrpcServer(models, port=port)
    start = threading.Timer(0.3, second.__enter__)
    start.start()
    with client:
        assert_same(client.search(PHOTOS), models["images"].searcher(PHOTOS))
    start.join()
    second.__exit__()


@every_way
def test_token_and_metadata_go_with_each_request(connect, troubles, way):
    client = connect(way, token="s3cret", metadata=[("x-tenant", "birds")])
    client.search(PHOTOS)
    assert len(troubles(way).metadata) == 2
    for metadata in troubles(way).metadata:
        assert metadata["authorization"] == "Bearer s3cret"
        assert metadata["x-tenant"] == "birds"


@every_way
def test_what_is_wrong_is_not_sent(connect, troubles, way):
    client = connect(way)
    client.signatures()
    for call, words in (
        (lambda: client.search([b"no image"]), "images: expected the bytes of"),
        (lambda: client.search([PHOTOS[0], b""]), "item 1"),
        (lambda: client.search_by_embedding(np.full((2, EMBEDDING_DIM), np.nan)), "finite"),
        (lambda: client.search_by_embedding(np.zeros((2, 3))), "expected the shape"),
        (lambda: client.search(PHOTOS, k=0), "k must be in"),
        (lambda: client.search(PHOTOS, exclude_ids=["a"]), "exclude_ids: expected whole"),
        (lambda: client.search(PHOTOS, deny_tags=["cat"]), "COLUMN=VALUE"),
        (lambda: client.decode([[0.5]]), "whole numbers"),
        (lambda: client.predict("search", {"image": PHOTOS}), r"Expected the names \['images'\]"),
        (lambda: client.predict("look", {}), "must have the signature 'look'"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    # The signatures alone were asked for.
    assert len(troubles(way).metadata) == 1 + 10


@every_way
def test_arguments_that_no_signature_takes_together_are_refused(connect, troubles, way):
    with pytest.raises(ValueError, match="search_k and search_with_exclusions"):
        connect(way).search(PHOTOS, k=3, exclude_ids=[1])
    with pytest.raises(ValueError, match="search_with_exclusions and search_with_filters"):
        connect(way).search(PHOTOS, exclude_ids=[], deny_tags=[])
    assert not troubles(way).metadata


def test_filters_of_a_model_without_tags_are_refused_by_name(connect):
    with pytest.raises(ValueError, match="must have the signature 'search_with_filters'"):
        connect("gRPC", "clips").search(ITEMS["clips"], allow_tags=["label=1"])


@every_way
def test_a_version_is_asked_by_number_or_label(connect, asked, way):
    connect(way, version=2**40 + 1).search(PHOTOS)
    connect(way, version_label="a b").search(PHOTOS)
    assert asked(way) == [2**40 + 1, "a b"]


def test_lists_of_exclusions_have_few_widths(connect, server):
    client = connect("gRPC")
    for num_ids, width in ((0, 16), (16, 16), (17, 64), (300, 1024)):
        client.search(PHOTOS[:1], exclude_ids=list(range(num_ids)))
        proto = server.predictions[-1].inputs["exclude_ids"]
        assert [dim.size for dim in proto.tensor_shape.dim] == [1, width]


def test_parts_are_kept_below_the_size_of_a_message(connect, server):
    large = [PHOTOS[0] + bytes(3000)] * 5
    connect("gRPC", max_message_bytes=16384).search(large)
    sizes = [len(request.inputs["images"].string_val) for request in server.predictions]
    assert sizes == [2, 2, 1]


@every_way
def test_a_request_larger_than_a_message_is_refused(connect, way):
    with pytest.raises(ServingError) as error:
        connect(way, max_message_bytes=8192).search([PHOTOS[0] + bytes(9000)])
    assert error.value.code == "RESOURCE_EXHAUSTED"


def test_many_asynchronous_calls_run_at_once(models):
    async def ask(address):
        async with AsyncSearchClient(address, "images") as client:
            return await asyncio.gather(*(client.search([image]) for image in PHOTOS * 4))

    with GrpcServer(models) as server:
        results = asyncio.run(ask(server.address))
    expected = models["images"].searcher(PHOTOS)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result.ids[0], expected.ids[number % 5])


@every_way
def test_a_closed_client_says_so(way):
    client = open_client(way, "localhost:1", "images")
    (client.stop if way.endswith("asyncio") else client.close)()
    with pytest.raises(RuntimeError, match="The client is closed"):
        client.search(PHOTOS)
    client.close()


def test_clips_are_packed_as_by_the_searcher(connect, server):
    clips = encode_clips(make_clips(2, 3))
    connect("gRPC", "clips").search(clips)
    proto = server.predictions[-1].inputs["frames"]
    expected = CLIPS.pack(clips)
    assert [dim.size for dim in proto.tensor_shape.dim] == list(expected.shape)
    assert list(proto.string_val) == list(expected.flat)


def test_codes_are_checked_by_the_model_itself(connect):
    with pytest.raises(ServingError, match=f"codes: expected values in 0 .. {NUM_CODEWORDS - 1}"):
        connect("gRPC").decode(np.full((1, NUM_SUBSPACES), NUM_CODEWORDS))


def test_pauses_are_real_ones_by_default():
    with SearchClient("localhost:1", "images") as client:
        assert client._sleep is time.sleep
