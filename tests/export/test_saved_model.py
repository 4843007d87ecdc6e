"""Laws of the version folder: whole or not there, and its answers are the searcher's own."""

import errno
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpqn
from tests.export.bad_inputs import BAD_INPUTS
from tests.export.tiny import (
    EMBEDDING_DIM,
    IMAGE_SHAPE,
    NUM_CODEWORDS,
    NUM_ITEMS,
    NUM_SUBSPACES,
    TOP_K,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_searcher,
)
from tfpqn.export import Searcher, SearchResult, StatusError, load_searcher, save_searcher
from tfpqn.index import CodeIndex, network_layout

SIGNATURES = [
    "decode",
    "embed",
    "encode",
    "search",
    "search_by_embedding",
    "search_by_id",
    "search_k",
    "search_with_exclusions",
    "serving_default",
]
METRICS = {"mean_average_precision": 0.75, "protocol": "digits"}


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def searcher(network) -> Searcher:
    return make_searcher(network)


@pytest.fixture(scope="module")
def version(searcher, tmp_path_factory) -> Path:
    return save_searcher(searcher, tmp_path_factory.mktemp("models") / "birds/1", metrics=METRICS)


@pytest.fixture(scope="module")
def loaded(version) -> Any:
    return load_searcher(version)


def assert_same(received: SearchResult, expected: SearchResult) -> None:
    """To the last bit."""
    assert received.ids.dtype == expected.ids.dtype
    np.testing.assert_array_equal(received.ids, expected.ids)
    np.testing.assert_array_equal(received.scores, expected.scores, strict=True)


# Round trips


@pytest.mark.parametrize("num_queries", [0, 1, 5])
def test_what_is_loaded_answers_as_what_was_saved(searcher, loaded, num_queries):
    images, embeddings = make_images(5)[:num_queries], make_embeddings(num_queries)
    assert_same(loaded(images), searcher(images))
    assert_same(loaded.search_by_embedding(embeddings), searcher.search_by_embedding(embeddings))


@pytest.mark.parametrize("way", ["searcher", "loaded", "signature"])
@pytest.mark.parametrize(
    "ids",
    [np.array([10.9]), [10.0], [True], [2**63], np.array([2**64 - 1], np.uint64), ["1"]],
    ids=str,
)
def test_no_number_is_cut_to_the_id_of_another_item(searcher, loaded, way, ids):
    search = {
        "searcher": searcher.search_by_id,
        "loaded": loaded.search_by_id,
        "signature": lambda ids: loaded.run("search_by_id", {"item_ids": ids}),
    }
    with pytest.raises((TypeError, ValueError), match=r"item_ids.*\. Received: "):
        search[way](ids)


@pytest.mark.parametrize("num_items", [0, 3])
def test_string_ids_and_places_without_an_item_come_back(network, tmp_path, num_items):
    searcher = make_searcher(network, make_index(network, "string", num_items))
    loaded = load_searcher(save_searcher(searcher, tmp_path / "1"))
    found = loaded(make_images(2))
    assert_same(found, searcher(make_images(2)))
    assert {type(id_) for id_ in found.ids.flat} == {str}
    assert (found.ids == "").sum() == 2 * (TOP_K - num_items)


def test_a_compiled_network_of_half_precision_comes_back(tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = make_network()
        network.compile("adam", tfpqn.losses.AsymmetricTripletLoss())
        searcher = make_searcher(network)
    finally:
        keras.config.set_dtype_policy(policy)
    loaded = load_searcher(save_searcher(searcher, tmp_path / "1"))
    assert_same(loaded(make_images(3)), searcher(make_images(3)))


def test_weights_codes_and_ids_are_variables_and_not_constants(network, tmp_path):
    num_items = 10**6
    layout = network_layout(network)
    codes = np.zeros((num_items, layout.code_length), layout.code_dtype)
    searcher = make_searcher(network, CodeIndex(layout, codes, np.arange(num_items) + 2**32))
    path = save_searcher(searcher, tmp_path / "1")
    assert (path / "saved_model.pb").stat().st_size < 2**20
    names = {name for name, _ in tf.train.list_variables(str(path / "variables/variables"))}
    assert sum("codes" in name or "ids" in name for name in names) == 2
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert size < num_items * (layout.bytes_per_code + 8) + 2**20


# The manifest


def test_the_manifest_says_what_the_folder_holds(version, loaded, network):
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest == loaded.manifest
    codebooks = np.asarray(network.quantizer.codebooks, "<f4")
    assert manifest["quantizer"] == {
        "codebooks_sha256": hashlib.sha256(codebooks.tobytes()).hexdigest(),
        "kind": "ProductQuantization",
        "code_length": NUM_SUBSPACES,
        "num_levels": 1,
        "num_codewords": NUM_CODEWORDS,
        "bytes_per_code": NUM_SUBSPACES,
        "embedding_dim": EMBEDDING_DIM,
        "codebook_fingerprint": network.quantizer.codebook_fingerprint(),
    }
    assert manifest["num_items"] == NUM_ITEMS
    assert (manifest["id_type"], manifest["top_k"]) == ("int64", TOP_K)
    assert manifest["items"] == "images"
    assert manifest["image_shape"] == list(IMAGE_SHAPE)
    assert manifest["metrics"] == METRICS
    versions = [manifest[f"{name}_version"] for name in ("tfpqn", "tensorflow", "keras", "numpy")]
    assert versions == [tfpqn.__version__, tf.__version__, keras.__version__, np.__version__]


def test_the_manifest_lists_signatures_and_ops(loaded):
    assert sorted(loaded.manifest["signatures"]) == SIGNATURES
    assert loaded.manifest["signatures"]["search"] == {
        "inputs": {"images": {"dtype": "string", "shape": [None]}},
        "outputs": {
            "ids": {"dtype": "int64", "shape": [None, TOP_K]},
            "scores": {"dtype": "float32", "shape": [None, TOP_K]},
        },
    }
    ops = loaded.manifest["ops"]
    assert ops == sorted(set(ops))
    assert {"DecodeImage", "GatherV2", "TopKV2"} <= set(ops)


# What is refused


@pytest.mark.parametrize("name", ["latest", "v1", "1.0", "-1", "1a", "١", "9" * 19, "007"])
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


def test_a_version_is_replaced_when_told_to(searcher, tmp_path):
    folder = tmp_path / "1"
    for metrics in ({"mAP": 0.5}, {"mAP": 0.75}):
        save_searcher(searcher, folder, metrics=metrics, overwrite=True)
        assert load_searcher(folder).manifest["metrics"] == metrics
        (folder / "left over").touch()
    save_searcher(searcher, folder, overwrite=True)
    assert not (folder / "left over").exists()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), np.float32(0.5), {1, 2}])
def test_metrics_that_json_cannot_hold_are_refused(searcher, tmp_path, figure):
    with pytest.raises(ValueError, match="metrics must hold finite numbers and strings alone"):
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


@keras.saving.register_keras_serializable(package="tests")
class CompiledByXla(keras.layers.Layer):
    """Flattens images in a function that XLA must compile."""

    def call(self, images):
        @tf.function(jit_compile=True)
        def flatten(pixels):
            return tf.reshape(tf.cast(pixels, tf.float32), [-1, np.prod(IMAGE_SHAPE)])

        return flatten(images)


@pytest.mark.parametrize(
    ("layer", "fault"),
    [(CallsPython, "op 'EagerPyFunc'"), (CompiledByXla, "mark '_XlaMustCompile'")],
)
def test_a_backbone_that_the_stock_server_could_not_run_is_refused(tmp_path, layer, fault):
    network = make_network(backbone=keras.Sequential([keras.Input(IMAGE_SHAPE), layer()]))
    with pytest.raises(ValueError, match=f"stock TensorFlow Serving .*{fault}"):
        save_searcher(make_searcher(network), tmp_path / "1")
    assert not list(tmp_path.iterdir())


# Whole or not there


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("tf.saved_model.save", OSError(errno.ENOSPC, "No space left on device")),
        ("check_ops", ValueError("an op that the server lacks")),
        ("_describe", KeyboardInterrupt()),
        ("list_ops", RuntimeError("no list")),
    ],
)
def test_an_export_that_fails_leaves_no_trace(searcher, tmp_path, monkeypatch, place, error):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(f"tfpqn.export.model.saved_model.{place}", fail)
    with pytest.raises(type(error)):
        save_searcher(searcher, tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_no_trace(network, tmp_path):
    searcher = make_searcher(network, make_index(network, num_items=200_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises((OSError, tf.errors.OpError)):
            save_searcher(searcher, tmp_path / "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


KILLED_PROGRAM = """
import os, signal, sys
from tests.export.tiny import make_network, make_searcher
from tfpqn.export import save_searcher, saved_model
saved_model.check_ops = lambda folder, **options: os.kill(os.getpid(), signal.SIGKILL)
save_searcher(make_searcher(make_network()), sys.argv[1])
"""


@pytest.mark.slow
def test_a_kill_during_the_export_leaves_no_version_and_the_next_export_tidies_up(
    searcher, tmp_path
):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_PROGRAM, str(tmp_path / "1")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    (left,) = tmp_path.iterdir()
    assert (left / "saved_model.pb").is_file()
    assert left.name.startswith("."), "a server would take it for a version"
    assert_same(
        load_searcher(save_searcher(searcher, tmp_path / "1"))(make_images(1)),
        searcher(make_images(1)),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


# Reading


def test_a_folder_without_a_manifest_or_a_saved_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"manifest.json.*Received: {str(tmp_path)!r}"):
        load_searcher(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="manifest.json must hold 'files'"):
        load_searcher(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(FileNotFoundError, match="saved_model.pb"):
        load_searcher(tmp_path)


@pytest.mark.parametrize("content", ["", '{"id_type": "int', "\x00", "[" * 10**5, '{"files": 1}'])
def test_a_torn_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json' must be .*Received: "):
        load_searcher(tmp_path)


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_refused_by_its_name(loaded, name):
    call, words, _ = BAD_INPUTS[name]
    with pytest.raises(StatusError, match=f"(?s){words}") as caught:
        loaded.run(call.signature, call.inputs)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_searcher_that_was_loaded_can_be_asked_after_bad_input(loaded, searcher):
    with pytest.raises(StatusError):
        loaded([b"no image"])
    assert_same(loaded(make_images(2)), searcher(make_images(2)))
