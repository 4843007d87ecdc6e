"""Laws of LiteRT models: they find what a search of all items on a server finds."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.test_vectors import QUERIES, VECTORS, make_network
from tests.export.tiny import NUM_ITEMS, make_codes, make_images, make_pixels
from tests.export.tiny import make_network as make_image_network
from tests.export.tiny_levels import make_clip_network
from tfpqn.export import Searcher, save_litert
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import ProductQuantization
from tfpqn.models import ProductQuantizationNetwork

TOP_K = 6
# TensorFlow's own interpreter is what the tests have; devices have that of LiteRT.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")


def index_of(network, codes, ids):
    return CodeIndex(network_layout(network), codes, ids)


def run(path, signature, **inputs):
    return tf.lite.Interpreter(str(path)).get_signature_runner(signature)(**inputs)


def assert_same(found, expected):
    np.testing.assert_array_equal(found["ids"], expected.ids)
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_model_of_images_finds_what_the_server_finds_in_the_same_pixels(tmp_path):
    network, names = make_image_network(), [f"photo {n}.jpg" for n in range(NUM_ITEMS)]
    index = index_of(network, make_codes(network), names)
    path = save_litert(network, index, tmp_path / "photos.tflite", top_k=TOP_K)
    searcher = Searcher(network, index, top_k=TOP_K)
    expected = searcher(make_images(3))
    found = run(path, "search", images=make_pixels(3).astype(np.uint8))
    ids = np.array(json.loads((tmp_path / "photos.ids.json").read_text(encoding="utf-8")))
    assert found["ids"].dtype == np.int64
    assert_same({**found, "ids": ids[found["ids"]]}, expected)
    embeddings = run(path, "embed", images=make_pixels(3).astype(np.uint8))["embeddings"]
    assert embeddings.shape == (3, searcher.embedding_dim)
    again = run(path, "search_by_embedding", embeddings=embeddings)
    np.testing.assert_array_equal(again["ids"], found["ids"])


@pytest.mark.slow
@pytest.mark.parametrize(("similarity", "num_levels"), [("l2", 2), ("cosine", 1), ("dot", 2)])
def test_a_model_of_vectors_has_the_ids_in_the_order_of_the_server(
    tmp_path, similarity, num_levels
):
    network = make_network(similarity, num_levels)
    # Many items have equal codes and scores.
    codes = np.asarray(network.encode(VECTORS))[np.arange(300) % 40]
    index = index_of(network, codes, 5 * np.arange(300)[::-1] + 1)
    path = save_litert(network, index, tmp_path / "vectors.tflite", top_k=20)
    found = run(path, "search", embeddings=QUERIES)
    assert_same(found, Searcher(network, index, top_k=20)(QUERIES))
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.tflite"]


@pytest.mark.slow
def test_codes_take_their_own_bytes_once_and_so_do_wide_ones(tmp_path):
    for num_codewords, size in ((256, 1), (512, 4)):
        quantizer = ProductQuantization(4, num_codewords, similarity="l2")
        network = ProductQuantizationNetwork(None, quantizer, None)
        network.build((None, 8))
        codes = np.random.default_rng(0).integers(0, num_codewords, (20_000, 4))
        index = index_of(network, codes, np.arange(20_000))
        path = save_litert(network, index, tmp_path / "some.tflite", top_k=TOP_K)
        assert 0 < path.stat().st_size - size * codes.size < 60_000
        found = run(path, "search", embeddings=QUERIES)
        assert_same(found, Searcher(network, index, top_k=TOP_K)(QUERIES))


@keras.saving.register_keras_serializable(package="tests")
class InverseError(keras.layers.Layer):
    def call(self, images):
        return keras.ops.erfinv(keras.ops.cast(images, "float32") / 256)


def test_what_has_no_counterpart_is_refused_by_name(tmp_path):
    network = make_clip_network()
    clips = index_of(network, make_codes(network), np.arange(NUM_ITEMS))
    with pytest.raises(ValueError, match="images and vectors. Received: a network of clips"):
        save_litert(network, clips, tmp_path / "some.tflite")
    network = make_network("l2")
    index = index_of(network, np.asarray(network.encode(VECTORS)), np.arange(300))
    for top_k in (301, 2.5, "5"):
        with pytest.raises(ValueError, match=f"integer in 1 .. 300, .* Received: top_k={top_k!r}"):
            save_litert(network, index, tmp_path / "some.tflite", top_k=top_k)
    with pytest.raises(ValueError, match="at least one item"):
        save_litert(network, index_of(network, index.codes[:0], []), tmp_path / "some.tflite")
    with pytest.raises(TypeError, match="network must be a Prod.* Received: .*CodeIndex"):
        save_litert(index, network, tmp_path / "some.tflite")
    with pytest.raises(ValueError, match=r"ends in \.tflite. Received: .*some'"):
        save_litert(network, index, tmp_path / "some")
    (tmp_path / "some.tflite").mkdir()
    with pytest.raises(ValueError, match=r"Received: .*some\.tflite', a folder"):
        save_litert(network, index, tmp_path / "some.tflite")
    (tmp_path / "some.tflite").rmdir()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_operation_that_litert_lacks_is_named_and_nothing_is_written(tmp_path):
    backbone = keras.Sequential([keras.Input((8,)), InverseError()])
    network = ProductQuantizationNetwork(backbone, ProductQuantization(2, 4), 8)
    index = index_of(network, np.zeros((9, 2), int), np.arange(9))
    with pytest.raises(ValueError, match="operations of LiteRT alone. Received: one with Erfinv"):
        save_litert(network, index, tmp_path / "some.tflite", top_k=1)
    assert not list(tmp_path.iterdir())
