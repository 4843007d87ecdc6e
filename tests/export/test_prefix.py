"""Laws of prefixes: the first levels of a collection's codes are a collection of shorter codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_CODEWORDS,
    NUM_ITEMS,
    TOP_K,
    assert_found,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_pixels,
    make_searcher,
    rank,
)
from tests.export.tiny_levels import (
    LevelReference,
    encode_clips,
    make_clip_network,
    make_clips,
    make_level_network,
    make_network_with,
)
from tfpqn.export import load_searcher, save_searcher
from tfpqn.export.interface.signatures import TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader
from tfpqn.index import CodeIndex, CodeLayout, network_layout
from tfpqn.items import CLIPS, IMAGES
from tfpqn.layers import ResidualProductQuantization

MANY_ITEMS = 20_000
CODE_LENGTH, PREFIX_LENGTH = 4, 2


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    return {
        "images": make_level_network(),
        "clips": make_clip_network(levels=2),
        "clips, shared codebooks": make_clip_network(levels=2, share_codebooks=True),
    }


every_network = pytest.mark.parametrize("kind", ["images", "clips", "clips, shared codebooks"])


def make_queries(kind: str, slow: LevelReference) -> tuple[Any, np.ndarray]:
    """What is asked, and its embeddings."""
    if kind == "images":
        return make_images(4), slow.embed(make_pixels(4))
    clips = make_clips(4, 7, 1)
    return encode_clips(clips), slow.embed_clips(clips)


@every_network
@pytest.mark.parametrize("num_levels", [1, 2])
def test_the_first_levels_find_what_a_loop_over_the_first_positions_finds(
    networks, kind, num_levels
):
    network = networks[kind]
    index, slow = make_index(network), LevelReference(network, num_levels)
    searcher = make_searcher(network, index, num_levels=num_levels)
    items, embeddings = make_queries(kind, slow)
    expected = slow.search(embeddings, index)
    assert_found(searcher(items), expected)
    assert_found(searcher.search_by_embedding(embeddings), expected)
    packed = tf.constant((IMAGES if kind == "images" else CLIPS).pack(items), tf.string)
    encoded = searcher.signatures["encode"](packed)["codes"]
    np.testing.assert_array_equal(encoded, slow.encode(embeddings))
    decoded = searcher.signatures["decode"](encoded)["embeddings"]
    np.testing.assert_allclose(decoded, slow.decode(encoded.numpy()), rtol=0, atol=1e-5)


def test_all_levels_are_what_none_stands_for(networks):
    network, embeddings = networks["images"], make_embeddings(4)
    named, unnamed = (make_searcher(network, num_levels=number) for number in (2, None))
    assert (named.num_levels, named.code_length) == (unnamed.num_levels, unnamed.code_length)
    first, second = (one.search_by_embedding(embeddings) for one in (named, unnamed))
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.scores, second.scores)


@every_network
@pytest.mark.parametrize("num_levels", [0, 3, -1, "1", 1.0, True])
def test_levels_that_the_quantizer_has_not_are_refused(networks, kind, num_levels):
    with pytest.raises((ValueError, TypeError), match=r"num_levels must .*Received: num_levels="):
        make_searcher(networks[kind], num_levels=num_levels)


def test_a_network_without_levels_has_one():
    network, embeddings = make_network(), make_embeddings(2)
    searcher = make_searcher(network, num_levels=1)
    assert searcher.num_levels == 1
    assert_found(
        searcher.search_by_embedding(embeddings),
        make_searcher(network).search_by_embedding(embeddings),
    )
    with pytest.raises(ValueError, match=r"num_levels must lie in 1 \.\. 1.*num_levels=2"):
        make_searcher(network, num_levels=2)


def test_an_index_of_levels_is_refused_by_a_network_without_them():
    levels, plain = make_level_network(), make_network()
    layouts = [network_layout(network) for network in (levels, plain)]
    assert len({(layout.code_length, layout.num_codewords) for layout in layouts}) == 1
    with pytest.raises(ValueError, match="built with other codebooks"):
        make_searcher(plain, make_index(levels))
    with pytest.raises(ValueError, match="built with other codebooks"):
        make_searcher(levels, make_index(plain))
    # A prefix searches the codes of the whole network, not those of the shorter one.
    prefix = levels.quantizer.prefix(1)
    layout = CodeLayout(PREFIX_LENGTH, NUM_CODEWORDS, prefix.codebook_fingerprint())
    short = CodeIndex(layout, np.zeros((1, PREFIX_LENGTH), int), [1])
    with pytest.raises(ValueError, match="code_length=4 .* an index with code_length=2"):
        make_searcher(levels, short, num_levels=1)


@pytest.mark.parametrize("options", [{}, {"first_levels": 1, "num_candidates": NUM_ITEMS}])
def test_codes_by_beam_are_encoded_and_searched_in_the_folder_as_by_the_network(tmp_path, options):
    quantizer = ResidualProductQuantization(3, 2, NUM_CODEWORDS, unit_codewords=False, beam_size=4)
    network = make_network_with(quantizer)
    pixels = make_pixels(NUM_ITEMS)
    codes = network.predict(pixels, verbose=0)["codes"]
    index = CodeIndex(network_layout(network), codes, np.arange(NUM_ITEMS))
    saved = save_searcher(make_searcher(network, index, **options), tmp_path / "1")
    encode = tf.saved_model.load(str(saved)).signatures["encode"]
    packed = tf.constant(IMAGES.pack(make_images(NUM_ITEMS)), tf.string)
    np.testing.assert_array_equal(encode(packed)["codes"], codes)
    embeddings = quantizer.normalize(make_embeddings(4)).numpy()
    decoded = quantizer.decode(codes).numpy()
    found = load_searcher(saved).search_by_embedding(embeddings)
    assert_found(found, rank(embeddings @ decoded.T, index, TOP_K))


# The folder


@pytest.fixture(scope="module")
def searchers(networks) -> dict[int, Any]:
    network = networks["images"]
    index = make_index(network, num_items=MANY_ITEMS)
    return {number: make_searcher(network, index, num_levels=number) for number in (1, 2)}


@pytest.fixture(scope="module")
def versions(searchers, tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {number: save_searcher(one, folder / f"{number}") for number, one in searchers.items()}


def test_the_first_level_comes_back_from_its_folder(searchers, versions):
    loaded, searcher = load_searcher(versions[1]), searchers[1]
    for received, expected in (
        (loaded(make_images(3)), searcher(make_images(3))),
        (
            loaded.search_by_embedding(make_embeddings(3)),
            searcher.search_by_embedding(make_embeddings(3)),
        ),
    ):
        np.testing.assert_array_equal(received.ids, expected.ids)
        np.testing.assert_array_equal(received.scores, expected.scores, strict=True)


def test_signatures_of_codes_are_as_wide_as_the_levels_that_are_left(versions):
    for num_levels, width in ((1, PREFIX_LENGTH), (2, CODE_LENGTH)):
        signatures = SavedModelLoader(versions[num_levels]).signatures
        assert signatures["encode"].outputs == {"codes": TensorInfo("int32", (None, width))}
        assert signatures["decode"].inputs == {"codes": TensorInfo("int32", (None, width))}
        embeddings = {"embeddings": TensorInfo("float32", (None, EMBEDDING_DIM))}
        assert signatures["search_by_embedding"].inputs == embeddings


def test_the_saved_codes_are_the_shorter_ones(versions):
    for num_levels, width in ((1, PREFIX_LENGTH), (2, CODE_LENGTH)):
        quantizer = json.loads((versions[num_levels] / "manifest.json").read_text())["quantizer"]
        assert (quantizer["num_levels"], quantizer["code_length"]) == (num_levels, width)
        assert quantizer["bytes_per_code"] == width
        variables = tf.train.list_variables(str(versions[num_levels] / "variables/variables"))
        (codes,) = (shape for name, shape in variables if name.startswith("storage/codes/"))
        assert codes[0] == width


def test_the_codebooks_of_the_levels_left_out_are_not_in_the_folder(networks, versions):
    shape = list(networks["images"].quantizer.codebooks.shape)
    variables = tf.train.list_variables(str(versions[1] / "variables/variables"))
    shapes = [found for _, found in variables]
    assert [1, *shape[1:]] in shapes
    assert shape not in shapes
