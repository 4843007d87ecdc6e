"""Laws of prefixes: the first levels of a collection's codes are a collection of shorter codes."""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.tiny import (
    NUM_CODEWORDS,
    NUM_ITEMS,
    Reference,
    assert_found,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_network_with,
    make_pixels,
    make_searcher,
    rank,
)
from tests.export.tiny_levels import (
    embed_clips,
    encode_clips,
    make_clip_network,
    make_clips,
    make_level_network,
)
from tfpqn.export import load_searcher, save_searcher
from tfpqn.export.interface.signatures import TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader
from tfpqn.index import CodeIndex, CodeLayout, network_layout
from tfpqn.items import IMAGES
from tfpqn.layers import ResidualProductQuantization

PREFIX_LENGTH = 2


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    return {
        "images": make_level_network(),
        "clips": make_clip_network(levels=2),
    }


@pytest.mark.parametrize(
    ("kind", "num_levels"),
    [
        ("images", 1),
        ("clips", 2),
        pytest.param("images", 2, marks=pytest.mark.slow),
        pytest.param("clips", 1, marks=pytest.mark.slow),
    ],
)
def test_the_first_levels_find_what_a_loop_over_the_first_positions_finds(
    networks, kind, num_levels
):
    network = networks[kind]
    index, slow = make_index(network), Reference(network, num_levels)
    searcher = make_searcher(network, index, num_levels=num_levels)
    if kind == "images":
        items, embeddings = make_images(4), slow.embed(make_pixels(4))
    else:
        clips = make_clips(4, 7, 1)
        items, embeddings = encode_clips(clips), embed_clips(slow, clips)
    assert_found(searcher(items), slow.search(embeddings, index))
    packed = tf.constant(network.items.pack(items), tf.string)
    encoded = searcher.signatures["encode"](packed)["codes"]
    np.testing.assert_array_equal(encoded, slow.encode(embeddings))
    decoded = searcher.signatures["decode"](encoded)["embeddings"]
    np.testing.assert_allclose(decoded, slow.decode(encoded.numpy()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_levels", [0, 3, "1", 1.0, True])
def test_levels_that_the_quantizer_has_not_are_refused(networks, num_levels):
    for network in networks.values():
        with pytest.raises((ValueError, TypeError), match=r"num_levels must .*Received: num_leve"):
            make_searcher(network, num_levels=num_levels)


def test_an_index_of_shorter_codes_is_refused(networks):
    with pytest.raises(ValueError, match="built with other codebooks"):
        make_searcher(make_network(), make_index(networks["images"]))
    # The fingerprint of an index is that of the whole network, not that of the shorter one.
    prefix = networks["images"].quantizer.prefix(1)
    layout = CodeLayout(PREFIX_LENGTH, NUM_CODEWORDS, prefix.codebook_fingerprint())
    short = CodeIndex(layout, np.zeros((1, PREFIX_LENGTH), int), [1])
    with pytest.raises(ValueError, match="code_length=4 .* an index with code_length=2"):
        make_searcher(networks["images"], short, num_levels=1)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"first_levels": 1, "num_candidates": NUM_ITEMS}])
def test_codes_by_beam_are_encoded_and_searched_in_the_folder_as_by_the_network(tmp_path, options):
    quantizer = ResidualProductQuantization(3, 2, NUM_CODEWORDS, unit_codewords=False, beam_size=4)
    network = make_network_with(quantizer)
    codes = network.predict(make_pixels(NUM_ITEMS), verbose=0)["codes"]
    index = CodeIndex(network_layout(network), codes, np.arange(NUM_ITEMS))
    loaded = load_searcher(save_searcher(make_searcher(network, index, **options), tmp_path / "1"))
    images = {"images": IMAGES.pack(make_images(NUM_ITEMS))}
    np.testing.assert_array_equal(loaded.run("encode", images)["codes"], codes)
    embeddings = quantizer.normalize(make_embeddings(4)).numpy()
    decoded = quantizer.decode(codes).numpy()
    assert_found(loaded.search_by_embedding(embeddings), rank(embeddings @ decoded.T, index))


def test_a_folder_of_the_first_level_holds_that_level_alone(networks, tmp_path):
    network = networks["images"]
    searcher = make_searcher(network, num_levels=1)
    path = save_searcher(searcher, tmp_path / "1")
    loaded, images = load_searcher(path), make_images(3)
    assert_found(loaded(images), searcher(images), tolerance=0)
    codes = {"codes": TensorInfo("int32", (None, PREFIX_LENGTH))}
    signatures = SavedModelLoader(path).signatures
    assert signatures["encode"].outputs == signatures["decode"].inputs == codes
    quantizer = json.loads((path / "manifest.json").read_text())["quantizer"]
    assert (quantizer["num_levels"], quantizer["bytes_per_code"]) == (1, PREFIX_LENGTH)
    shapes = dict(tf.train.list_variables(str(path / "variables/variables")))
    assert shapes["storage/codes/.ATTRIBUTES/VARIABLE_VALUE"][0] == PREFIX_LENGTH
    codebooks = list(network.quantizer.codebooks.shape)
    assert [1, *codebooks[1:]] in shapes.values()
    assert codebooks not in shapes.values()
