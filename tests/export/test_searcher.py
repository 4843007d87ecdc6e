"""Laws of the searcher: a network and its collection answer as a loop over both would."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.datasets.pictures import PICTURES
from tests.export.tiny import (
    EMBEDDING_DIM,
    FLOOR_SCORE,
    NUM_ITEMS,
    NUM_SUBSPACES,
    TOP_K,
    Reference,
    assert_found,
    encode_image,
    make_codes,
    make_embeddings,
    make_ids,
    make_images,
    make_index,
    make_network,
    make_pixels,
    make_searcher,
)
from tfpqn.cli.queries import read_query
from tfpqn.datasets import ImageFolder
from tfpqn.export import Searcher, SearchResult
from tfpqn.export.client.inputs import pack_queries
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.search.item_labels import ItemLabels
from tfpqn.index import CodeIndex, CodeLayout, network_layout
from tfpqn.items import IMAGES

SIGNATURES = [
    "serving_default",
    "search",
    "search_by_embedding",
    "search_by_id",
    "search_with_exclusions",
    "search_k",
    "embed",
    "encode",
    "decode",
]
ID_TYPES = pytest.mark.parametrize("id_type", ["int64", "string"])


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def searcher(network) -> Searcher:
    return make_searcher(network)


@ID_TYPES
@pytest.mark.parametrize("num_images", [1, 5])
def test_an_image_finds_what_a_loop_over_weights_and_codes_finds(network, id_type, num_images):
    index, slow = make_index(network, id_type), Reference(network)
    found = make_searcher(network, index)(make_images(num_images))
    assert_found(found, slow.search(slow.embed(make_pixels(num_images)), index))


@ID_TYPES
def test_an_embedding_finds_what_a_loop_over_the_codes_finds(network, id_type):
    index, embeddings = make_index(network, id_type), make_embeddings(5)
    found = make_searcher(network, index).search_by_embedding(embeddings)
    assert_found(found, Reference(network).search(embeddings, index))


def test_an_image_finds_what_its_embedding_finds(network, searcher):
    embeddings = network.predict(make_pixels(5), verbose=0)["embeddings"]
    assert_found(searcher(make_images(5)), searcher.search_by_embedding(embeddings))


def test_pictures_of_all_kinds_have_the_embeddings_with_which_they_are_indexed(
    network, searcher, tmp_path
):
    for name, picture in PICTURES.items():
        (tmp_path / name).write_bytes(picture.data)
    images = ImageFolder(tmp_path, network.image_shape)
    (batch,) = images.batches(len(PICTURES))
    assert len(batch.images) == len(PICTURES)
    expected = network.predict(batch.images, verbose=0)["embeddings"]
    queries = [read_query(images.files[position], IMAGES, 0) for position in batch.positions]
    signature = Signature({"images": TensorInfo("string", (None,))}, {})
    sent = pack_queries([file.read_bytes() for file in images.files], signature)["images"]
    for items in (queries, sent.tolist()):
        found = searcher.signatures["embed"](tf.constant(items))["embeddings"]
        np.testing.assert_array_equal(found, expected)


def test_coded_images_find_themselves():
    # So many codewords that no two of the images share a code.
    sharp = make_network(num_codewords=300)
    codes = sharp.predict(make_pixels(20), verbose=0)["codes"]
    assert codes.dtype == np.uint16
    index = CodeIndex(network_layout(sharp), codes, make_ids("string", 20))
    found = make_searcher(sharp, index, top_k=1)(make_images(20))
    np.testing.assert_array_equal(found.ids[:, 0], index.ids)


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(searcher):
    images = make_images(5)
    together = searcher(images)
    for row, image in enumerate(images):
        alone = searcher([image])
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-5)


def test_every_format_of_the_same_pixels_finds_the_same(searcher):
    (pixels,) = make_pixels(1)
    expected = searcher([encode_image(pixels)])
    assert_found(searcher([encode_image(pixels, "BMP")]), expected)
    assert_found(searcher([encode_image(pixels, "GIF")]), expected)


@given(scale=st.floats(1e-3, 1e9), seed=st.integers(0, 2**32 - 1))
def test_embeddings_of_any_length_find_the_same(searcher, scale, seed):
    embeddings = make_embeddings(3, seed)
    expected = searcher.search_by_embedding(embeddings)
    assert_found(searcher.search_by_embedding(embeddings * np.float32(scale)), expected)
    normalized = reference.intra_normalize(embeddings, NUM_SUBSPACES)
    assert_found(searcher.search_by_embedding(normalized), expected)


@pytest.mark.parametrize("rows_per_block", [1, 7, NUM_ITEMS, 2**20])
def test_the_answer_does_not_depend_on_the_size_of_the_blocks(network, searcher, rows_per_block):
    embeddings = make_embeddings(3)
    other = make_searcher(network, rows_per_block=rows_per_block)
    received = other.search_by_embedding(embeddings)
    expected = searcher.search_by_embedding(embeddings)
    np.testing.assert_array_equal(received.ids, expected.ids)
    np.testing.assert_array_equal(received.scores, expected.scores)


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


@ID_TYPES
@pytest.mark.parametrize("num_items", [0, 3])
def test_places_that_no_item_fills_have_no_id_and_a_finite_score(network, id_type, num_items):
    index = make_index(network, id_type, num_items)
    assert index.id_type == id_type
    searcher = make_searcher(network, index)
    for found in (searcher(make_images(2)), searcher.search_by_embedding(make_embeddings(2))):
        assert found.ids.shape == found.scores.shape == (2, TOP_K)
        assert found.ids.dtype == index.ids.dtype
        assert (found.ids[:, num_items:] == ("" if id_type == "string" else -1)).all()
        assert (found.scores[:, num_items:] == FLOOR_SCORE).all()
        assert set(found.ids[0, :num_items]) == set(index.ids)
        assert (found.scores[:, :num_items] > -NUM_SUBSPACES - 1e-5).all()


def test_a_batch_without_rows_has_an_answer_without_rows(searcher):
    found = searcher.search_by_embedding(np.zeros((0, EMBEDDING_DIM)))
    assert found.ids.shape == found.scores.shape == (0, TOP_K)
    found = searcher([])
    assert found.ids.shape == found.scores.shape == (0, TOP_K)


def test_signatures_have_a_batch_axis_and_named_inputs(searcher):
    assert list(searcher.signatures) == SIGNATURES
    names = {"images", "embeddings", "codes", "item_ids", "exclude_ids"}
    for function in searcher.signatures.values():
        specs = {spec.name: spec for spec in function.input_signature}
        # A number of items alone has no row for each query.
        assert specs.pop("k", tf.TensorSpec([])).shape.rank == 0
        assert specs and set(specs) <= names
        assert all(spec.shape[0] is None for spec in specs.values())


def test_an_index_of_another_network_is_refused(network):
    foreign = make_index(make_network(seed=8))
    with pytest.raises(ValueError, match="built with other codebooks"):
        make_searcher(network, foreign)
    fingerprint = network.quantizer.codebook_fingerprint()
    short = CodeIndex(CodeLayout(2, 16, fingerprint), np.zeros((1, 2), int), [1])
    with pytest.raises(ValueError, match="code_length=4 .* an index with code_length=2"):
        make_searcher(network, short)


@pytest.mark.parametrize("name", ["top_k", "rows_per_block"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 10**12, 2.5, True, "3", None])
def test_counts_out_of_range_or_no_integers_are_refused_by_name(network, name, value):
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error, match=rf"{name} must be .*Received: {name}={value!r}"):
        make_searcher(network, **{name: value})


def test_the_largest_block_holds_the_whole_collection(network, searcher):
    embeddings = make_embeddings(2)
    found = make_searcher(network, rows_per_block=2**30).search_by_embedding(embeddings)
    assert_found(found, searcher.search_by_embedding(embeddings))


def test_what_cannot_be_searched_with_is_an_invalid_argument(searcher):
    with pytest.raises(tf.errors.InvalidArgumentError, match="images: expected the bytes of a"):
        searcher([b"no image"])
    broken = make_embeddings(3)
    broken[1, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"embeddings: .* NaN .*\[1\]"):
        searcher.search_by_embedding(broken)


@pytest.mark.parametrize("scales", [1e37, 1e-30, [1e37, 1e-30, 1e-8, 1.0]])
def test_embeddings_too_large_or_small_to_be_squared_find_what_their_direction_finds(
    searcher, scales
):
    embeddings = make_embeddings(3)
    expected = searcher.search_by_embedding(embeddings)
    by_subvector = np.broadcast_to(np.float32(scales), NUM_SUBSPACES)
    factors = np.repeat(by_subvector, EMBEDDING_DIM // NUM_SUBSPACES)
    found = searcher.search_by_embedding(embeddings * factors)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)


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
        (pa.table({"label": pa.array([["a", "b"], None, []])}), ["", "", "a|b", ""]),
    ):
        labels = ItemLabels(metadata, "label").at(positions).numpy().tolist()
        assert labels == [[text.encode() for text in expected]]
    with pytest.raises(ValueError, match="label_column must name metadata columns"):
        ItemLabels(pa.table(names), "name")
