"""Laws of the version folder: whole or not there, and its answers are the searcher's own."""

import errno
import hashlib
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpqn
from tests.export import zoo
from tests.export.tiny import (
    EMBEDDING_DIM,
    IMAGE_SHAPE,
    NUM_CODEWORDS,
    NUM_ITEMS,
    NUM_SUBSPACES,
    TOP_K,
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
from tests.export.tiny_levels import make_level_network
from tfpqn.export import load_searcher, save_searcher
from tfpqn.index import CodeIndex, network_layout
from tfpqn.items import IMAGES
from tfpqn.layers import ResidualProductQuantization


@pytest.fixture(scope="module")
def searcher():
    return zoo.make_zoo_searcher("pqn")


@pytest.fixture(scope="module")
def loaded(exported):
    return load_searcher(exported("pqn"))


@pytest.mark.parametrize("num_queries", [pytest.param(0, marks=pytest.mark.slow), 5])
def test_what_is_loaded_answers_as_what_was_saved(searcher, loaded, num_queries):
    images, embeddings = make_images(5)[:num_queries], make_embeddings(num_queries)
    ids = make_index(make_network()).ids[:num_queries]
    for found, expected in (
        (loaded(images), searcher(images)),
        (loaded.search_by_embedding(embeddings), searcher.search_by_embedding(embeddings)),
        (loaded.search_by_id(ids), searcher.search_by_id(ids)),
    ):
        assert_found(found, expected, tolerance=0)


@pytest.mark.parametrize("ids", [[10.0], [True], [2**63], np.array([2**64 - 1], np.uint64), ["1"]])
def test_no_number_is_cut_to_the_id_of_another_item(loaded, ids):
    for search in (
        loaded.search_by_id,
        lambda ids: loaded.run("search_by_id", {"item_ids": ids}),
    ):
        with pytest.raises((TypeError, ValueError), match=r"item_ids.*\. Received: "):
            search(ids)


def test_string_ids_and_places_without_an_item_come_back_from_half_precision(tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = make_network()
        network.compile("adam", tfpqn.losses.AsymmetricTripletLoss())
        searcher = make_searcher(network, make_index(network, "string", 3))
    finally:
        keras.config.set_dtype_policy(policy)
    loaded = load_searcher(save_searcher(searcher, tmp_path / "1"))
    found = loaded(make_images(2))
    assert_found(found, searcher(make_images(2)), tolerance=0)
    assert {type(id_) for id_ in found.ids.flat} == {str}
    assert (found.ids == "").sum() == 2 * (TOP_K - 3)


def test_weights_codes_and_ids_are_variables_and_not_constants(tmp_path):
    network, num_items = make_network(), 10**6
    layout = network_layout(network)
    codes = np.zeros((num_items, layout.code_length), layout.code_dtype)
    searcher = make_searcher(network, CodeIndex(layout, codes, np.arange(num_items) + 2**32))
    path = save_searcher(searcher, tmp_path / "1")
    assert (path / "saved_model.pb").stat().st_size < 2**20
    names = {name for name, _ in tf.train.list_variables(str(path / "variables/variables"))}
    assert sum("planes" in name or "ids" in name for name in names) == 2
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    # Of equal codes a position and the number of the code, which takes a byte.
    assert size < num_items * (4 + 1 + 8) + 2**20


def test_the_manifest_says_what_the_folder_holds(exported, loaded):
    manifest = json.loads((exported("pqn") / "manifest.json").read_text())
    assert manifest == loaded.manifest
    quantizer = zoo.make_model("pqn").network.quantizer
    codebooks = np.asarray(quantizer.decoded_codebooks(), "<f4")
    assert manifest["quantizer"] == {
        "codebooks_sha256": hashlib.sha256(codebooks.tobytes()).hexdigest(),
        "kind": "ProductQuantization",
        "code_length": NUM_SUBSPACES,
        "num_levels": 1,
        "num_codewords": NUM_CODEWORDS,
        "bytes_per_code": NUM_SUBSPACES,
        "embedding_dim": EMBEDDING_DIM,
        "codebook_fingerprint": quantizer.codebook_fingerprint(),
    }
    assert manifest["num_items"] == NUM_ITEMS
    assert (manifest["id_type"], manifest["top_k"]) == ("int64", TOP_K)
    assert (manifest["items"], manifest["image_shape"]) == ("images", list(IMAGE_SHAPE))
    assert manifest["metrics"] == zoo.METRICS
    assert manifest["signatures"]["search_by_id"] == {
        "inputs": {"item_ids": {"dtype": "int64", "shape": [None]}},
        "outputs": {
            "ids": {"dtype": "int64", "shape": [None, TOP_K]},
            "labels": {"dtype": "string", "shape": [None, TOP_K]},
            "scores": {"dtype": "float32", "shape": [None, TOP_K]},
        },
    }
    assert {"DecodeImage", "GatherV2", "TopKV2"} <= set(manifest["ops"])
    versions = [manifest[f"{name}_version"] for name in ("tfpqn", "tensorflow", "keras", "numpy")]
    assert versions == [tfpqn.__version__, tf.__version__, keras.__version__, np.__version__]


def test_a_folder_of_the_first_level_holds_that_level_alone(tmp_path):
    network = make_level_network()
    index, slow = make_index(network), Reference(network, num_levels=1)
    path = save_searcher(make_searcher(network, index, num_levels=1), tmp_path / "1")
    expected = slow.search(slow.embed(make_pixels(3)), index)
    assert_found(load_searcher(path)(make_images(3)), expected)
    quantizer = json.loads((path / "manifest.json").read_text())["quantizer"]
    assert (quantizer["num_levels"], quantizer["bytes_per_code"]) == (1, 2)
    shapes = dict(tf.train.list_variables(str(path / "variables/variables")))
    # Two positions of a byte share a plane.
    assert shapes["storage/planes/.ATTRIBUTES/VARIABLE_VALUE"][0] == 1
    codebooks = list(network.quantizer.codebooks.shape)
    assert [1, *codebooks[1:]] in shapes.values()
    assert codebooks not in shapes.values()


@pytest.mark.slow
def test_codes_by_beam_are_encoded_and_searched_in_the_folder_as_by_the_network(tmp_path):
    quantizer = ResidualProductQuantization(3, 2, NUM_CODEWORDS, unit_codewords=False, beam_size=4)
    network = make_network_with(quantizer)
    codes = network.predict(make_pixels(NUM_ITEMS), verbose=0)["codes"]
    index = CodeIndex(network_layout(network), codes, np.arange(NUM_ITEMS))
    loaded = load_searcher(save_searcher(make_searcher(network, index), tmp_path / "1"))
    images = {"images": IMAGES.pack(make_images(NUM_ITEMS))}
    np.testing.assert_array_equal(loaded.run("encode", images)["codes"], codes)
    embeddings = quantizer.normalize(make_embeddings(4)).numpy()
    decoded = quantizer.decode(codes).numpy()
    assert_found(loaded.search_by_embedding(embeddings), rank(embeddings @ decoded.T, index))


@pytest.mark.parametrize("name", ["latest", "v1", "1.0", "-1", "١", "9" * 19, "007"])
def test_a_name_that_is_no_version_number_is_refused(searcher, tmp_path, name):
    with pytest.raises(ValueError, match=rf"version number.*birds/{re.escape(name)}'"):
        save_searcher(searcher, tmp_path / "birds" / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_version_that_exists_is_refused_and_stays_as_it_is(searcher, tmp_path, kind):
    kept = tmp_path / "1" / "kept" if kind == "folder" else tmp_path / "1"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    for overwrite in (False, True):  # what is no version is never replaced
        with pytest.raises(FileExistsError, match=r"a new version. Received: .*take the next"):
            save_searcher(searcher, tmp_path / "1", overwrite=overwrite)
    assert kept.read_text() == "kept"
    assert len(list(tmp_path.rglob("*"))) == (2 if kind == "folder" else 1)


@pytest.mark.parametrize("figure", [float("nan"), np.float32(0.5), {1, 2}])
def test_metrics_that_json_cannot_hold_are_refused(searcher, tmp_path, figure):
    with pytest.raises((TypeError, ValueError), match="JSON"):
        save_searcher(searcher, tmp_path / "1", metrics={"mean_average_precision": figure})
    assert not list(tmp_path.iterdir())


def test_codebooks_that_changed_since_the_collection_was_coded_are_refused(tmp_path):
    network = make_network()
    searcher = make_searcher(network)
    codebooks = network.quantizer.codebooks
    codebooks.assign(np.random.default_rng(0).normal(size=codebooks.shape))
    with pytest.raises(ValueError, match="built with other codebooks"):
        save_searcher(searcher, tmp_path / "1")
    assert not list(tmp_path.iterdir())


@keras.saving.register_keras_serializable(package="tests")
class CallsPython(keras.layers.Layer):
    """Flattens images in Python, which no server has."""

    def call(self, images):
        def flatten(pixels):
            return pixels.numpy().reshape(len(pixels), -1)

        flat = tf.py_function(flatten, [tf.cast(images, tf.float32)], tf.float32)
        return tf.ensure_shape(flat, [None, np.prod(IMAGE_SHAPE)])


@pytest.mark.slow
def test_a_backbone_that_the_stock_server_could_not_run_is_refused(tmp_path):
    network = make_network(backbone=keras.Sequential([keras.Input(IMAGE_SHAPE), CallsPython()]))
    with pytest.raises(ValueError, match="stock TensorFlow Serving .*op 'EagerPyFunc'"):
        save_searcher(make_searcher(network), tmp_path / "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("tf.saved_model.save", OSError(errno.ENOSPC, "No space left on device")),
        ("check_ops", KeyboardInterrupt()),
    ],
)
def test_an_export_that_fails_leaves_no_trace(searcher, tmp_path, monkeypatch, place, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"tfpqn.export.model.saved_model.{place}", fail)
    with pytest.raises(type(error)):
        save_searcher(searcher, tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_manifest_or_a_saved_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"manifest.json.*Received: {str(tmp_path)!r}"):
        load_searcher(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format_version": 1, "files": {}}')
    with pytest.raises(FileNotFoundError, match="saved_model.pb"):
        load_searcher(tmp_path)


@pytest.mark.parametrize("content", ["", '{"id_type": "int', "\x00", "[" * 10**5, "{}"])
def test_a_torn_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json' must be .*Received: "):
        load_searcher(tmp_path)
