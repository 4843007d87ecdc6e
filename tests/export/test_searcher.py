"""Laws of the searcher: a network and its collection answer as a loop over both would."""

import re

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.datasets.pictures import PICTURES
from tests.export.tiny import (
    EMBEDDING_DIM,
    FLOOR_SCORE,
    NUM_CODEWORDS,
    NUM_SUBSPACES,
    TOP_K,
    assert_found,
    make_codes,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_searcher,
)
from tests.export.tiny_levels import make_level_network
from tfpqn.cli.queries import read_queries
from tfpqn.datasets import ImageFolder
from tfpqn.export import SearchResult
from tfpqn.export.client.inputs import pack_queries
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.search.item_labels import ItemLabels
from tfpqn.index import CodeIndex, CodeLayout, network_layout
from tfpqn.items import IMAGES


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def searcher(network):
    return make_searcher(network)


def test_pictures_of_all_kinds_have_the_embeddings_with_which_they_are_indexed(
    network, searcher, tmp_path
):
    for name, picture in PICTURES.items():
        (tmp_path / name).write_bytes(picture.data)
    images = ImageFolder(tmp_path, network.image_shape)
    (batch,) = images.batches(len(PICTURES))
    assert len(batch.images) == len(PICTURES)
    expected = network.predict(batch.images, verbose=0)["embeddings"]
    queries = [read_queries(images.files[position], IMAGES, 0)[0] for position in batch.positions]
    signature = Signature({"images": TensorInfo("string", (None,))}, {})
    sent = pack_queries([file.read_bytes() for file in images.files], signature)["images"]
    for items in (queries, sent.tolist()):
        found = searcher.signatures["embed"](tf.constant(items))["embeddings"]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "ids",
    [
        [2**63 - 1, -(2**63), 2**32, 2**32 + 1, 0],
        ["é", "e\N{COMBINING ACUTE ACCENT}", "鳥/1.png", "\N{BIRD}", "a\0b"],
    ],
)
def test_ids_come_back_as_they_were_given(network, ids):
    index = CodeIndex(network_layout(network), make_codes(network, len(ids)), ids)
    found = make_searcher(network, index, top_k=len(ids))(make_images(2))
    assert isinstance(found, SearchResult)
    assert len(found) == len(tuple(found)) == 2
    assert found[0] is found.ids and found[-1] is found.scores
    assert found.ids.dtype == index.ids.dtype
    for row in found.ids.tolist():
        assert [type(id_) for id_ in row] == [type(id_) for id_ in ids]
        assert sorted(row) == sorted(ids)


@pytest.mark.parametrize(
    ("id_type", "num_items", "options"),
    [
        ("int64", 0, {"partition": 4}),
        ("int64", 0, {"partition": "auto"}),
        ("string", 0, {}),
        ("string", 3, {}),
    ],
)
def test_places_that_no_item_fills_have_no_id_and_a_finite_score(
    network, id_type, num_items, options
):
    index = make_index(network, id_type, num_items)
    assert index.id_type == id_type
    searcher = make_searcher(network, index, **options)
    for found in (searcher(make_images(2)), searcher.search_by_embedding(make_embeddings(2))):
        assert found.ids.shape == found.scores.shape == (2, TOP_K)
        assert found.ids.dtype == index.ids.dtype
        assert (found.ids[:, num_items:] == ("" if id_type == "string" else -1)).all()
        assert (found.scores[:, num_items:] == FLOOR_SCORE).all()
        assert set(found.ids[0, :num_items]) == set(index.ids)
        assert (found.scores[:, :num_items] > -NUM_SUBSPACES - 1e-5).all()


def test_an_index_of_another_network_is_refused(network):
    foreign = make_index(make_network(seed=8))
    with pytest.raises(ValueError, match="built with other codebooks"):
        make_searcher(network, foreign)
    # The fingerprint of an index is that of the whole network, not that of its first level.
    levels = make_level_network()
    layout = CodeLayout(2, NUM_CODEWORDS, levels.quantizer.prefix(1).codebook_fingerprint())
    short = CodeIndex(layout, np.zeros((1, 2), int), [1])
    with pytest.raises(ValueError, match="code_length=4 .* an index with code_length=2"):
        make_searcher(levels, short, num_levels=1)


@pytest.mark.parametrize("num_levels", [0, 3, "1", 1.0, True])
def test_levels_that_the_quantizer_has_not_are_refused(num_levels):
    with pytest.raises((ValueError, TypeError), match=r"num_levels must .*Received: num_leve"):
        make_searcher(make_level_network(), num_levels=num_levels)


@pytest.mark.parametrize("name", ["top_k", "max_pixels"])
@pytest.mark.parametrize("value", [0, 2**31, 2.5, True, None])
def test_counts_out_of_range_or_no_integers_are_refused_by_name(network, name, value):
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error, match=rf"{name} must be .*Received: {name}={value!r}"):
        make_searcher(network, **{name: value})


def test_fewer_pixels_than_the_network_sees_are_refused(network):
    with pytest.raises(ValueError, match="max_pixels must be at least those of.*Received: max_p"):
        make_searcher(network, max_pixels=15)


def test_integers_of_numpy_count_as_any(network, searcher):
    lists = make_searcher(network, partition=8, num_probes=np.int64(8), top_k=np.int64(TOP_K))
    first = make_searcher(make_level_network(), num_levels=np.int64(1))
    assert type(lists.top_k) is int and type(first.num_levels) is int
    embeddings = make_embeddings(3)
    assert_found(lists.search_by_embedding(embeddings), searcher.search_by_embedding(embeddings))


def test_any_signature_runs_by_its_name_and_another_name_is_refused(searcher):
    images = {"images": np.array(make_images(2), object)}
    by_default = searcher.run("serving_default", images)
    np.testing.assert_array_equal(by_default["ids"], searcher.run("search", images)["ids"])
    with pytest.raises(
        ValueError, match="signature is unknown. Expected one of .*Received: .*'fly'"
    ):
        searcher.run("fly", images)
    with pytest.raises(ValueError, match=r"must be \['images'\]. Received: \['exclude_ids', 'im"):
        searcher.run("search", {**images, "exclude_ids": [[1]]})


@pytest.mark.parametrize("options", [{}, {"partition": 8, "num_probes": 2}])
def test_an_answer_is_the_same_whatever_queries_come_with_it(network, options):
    searcher, embeddings = make_searcher(network, **options), make_embeddings(33)
    together = searcher.search_by_embedding(embeddings)
    for rows in (slice(0, 1), slice(7, 8), slice(7, 9), slice(2, 33)):
        found = searcher.search_by_embedding(embeddings[rows])
        np.testing.assert_array_equal(found.ids, together.ids[rows])
        np.testing.assert_array_equal(found.scores, together.scores[rows])


@pytest.mark.parametrize("scales", [1e37, 1e-30, 100.0, [1e37, 1e-30, 1e-8, 1.0]])
def test_embeddings_of_any_length_find_what_their_direction_finds(searcher, scales):
    embeddings = make_embeddings(3)
    expected = searcher.search_by_embedding(embeddings)
    by_subvector = np.broadcast_to(np.float32(scales), NUM_SUBSPACES)
    factors = np.repeat(by_subvector, EMBEDDING_DIM // NUM_SUBSPACES)
    assert_found(searcher.search_by_embedding(embeddings * factors), expected)


@pytest.mark.parametrize("shape", [(2, EMBEDDING_DIM - 1), (EMBEDDING_DIM,), (1, 1, EMBEDDING_DIM)])
def test_embeddings_of_another_shape_are_refused(searcher, shape):
    message = rf"shape \[batch, {EMBEDDING_DIM}\]. Received: {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        searcher.search_by_embedding(np.zeros(shape))


def test_labels_have_their_names_and_are_empty_where_an_item_has_none():
    positions = tf.constant([[2, 1, 0, -1]])
    names = {"label": pa.array([5, 6, 5]), "label_name": pa.array(["cat", None, "käse"])}
    for metadata, expected in (
        (pa.table(names), ["käse", "", "cat", ""]),
        (pa.table({"label": pa.array([1, None, 3])}), ["3", "", "1", ""]),
        (pa.table({"label": pa.array([1.5, float("nan"), 3.0])}), ["3.0", "", "1.5", ""]),
        (pa.table({"label": pa.array([["a", "b"], None, []])}), ["", "", "a|b", ""]),
        (pa.table({"label": pa.array([["a", None], [None], ["b"]])}), ["b", "", "a", ""]),
    ):
        labels = ItemLabels(metadata, "label").at(positions).numpy().tolist()
        assert labels == [[text.encode() for text in expected]]
    with pytest.raises(ValueError, match="label_column must name metadata columns"):
        ItemLabels(pa.table(names), "name")


def test_columns_that_are_not_there_are_refused(network):
    with pytest.raises(ValueError, match=r"tag_columns must name .*\[\].*'colour'"):
        make_searcher(network, tag_columns=["colour"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook_fingerprint": "ab"}, "network with codebook_fingerprint=.*Received: 'ab'"),
        ({"num_levels": 2}, "network with num_levels=1. Received: 2"),
    ],
)
def test_the_calibration_of_another_network_is_refused(network, change, message):
    fingerprint = network.quantizer.codebook_fingerprint()
    calibration = {"score_threshold": 0.5, "codebook_fingerprint": fingerprint, "num_levels": 1}
    with pytest.raises(ValueError, match=message):
        make_searcher(network, calibration={**calibration, **change})
