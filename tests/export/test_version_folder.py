"""The whole version folder, and what `verify_version` finds wrong in a spoilt one."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tests.export.tiny import make_index, make_network, make_searcher
from tests.export.tiny_levels import make_clip_network
from tfpqn.export import load_searcher, save_searcher
from tfpqn.export.loading.loaders import SavedModelLoader
from tfpqn.export.model.batching_parameters import BatchingParameters
from tfpqn.export.model.verify import verify_version
from tfpqn.export.model.warmup import read_warmup_requests

FILES = {
    "README.txt",
    "assets.extra/tf_serving_warmup_requests",
    "batching_params.pbtxt",
    "fingerprint.pb",
    "manifest.json",
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
}
WARMUP = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def version(network, tmp_path_factory):
    index = make_index(network, "string")
    folder = tmp_path_factory.mktemp("models") / "birds" / "3"
    return save_searcher(make_searcher(network, index), folder)


def test_the_folder_holds_what_a_server_and_a_reader_need(version):
    files = {file.relative_to(version).as_posix() for file in version.rglob("*") if file.is_file()}
    assert files == FILES
    manifest = json.loads((version / "manifest.json").read_text())
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    parameters = BatchingParameters.read(version / "batching_params.pbtxt")
    assert parameters.max_batch_size == 32 and parameters.pad_variable_length_inputs
    text = (version / "README.txt").read_text()
    for line in ("/models/birds/3/batching_params.pbtxt", "v1/models/birds:predict", "search_k"):
        assert line in text
    assert "$" not in text.replace("$PWD", "").replace("$(base64", "")


def test_each_signature_is_warmed_up_at_the_smallest_and_the_largest_batch(version):
    with SavedModelLoader(version) as model:
        requests = list(read_warmup_requests(version))
        counts = Counter(name for name, _ in requests)
        assert counts == dict.fromkeys(model.signatures, 2)
        for name, inputs in requests:
            sizes = {len(value) for value in inputs.values() if value.ndim}
            outputs = model.run(name, inputs)
            assert sizes == {len(values) for values in outputs.values()}
            assert sizes <= {1, 32}


def test_warm_up_requests_are_records_as_a_server_reads_them(version):
    records = tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator()
    for record in records:
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "birds"
        assert request.model_spec.signature_name


def test_allowed_batch_sizes_are_all_warmed_up(network, tmp_path):
    batching = BatchingParameters(4, allowed_batch_sizes=(2, 4))
    path = save_searcher(make_searcher(network), tmp_path / "1", batching=batching)
    assert BatchingParameters.read(path / "batching_params.pbtxt") == batching
    sizes = {len(i["embeddings"]) for _, i in read_warmup_requests(path) if "embeddings" in i}
    assert sizes == {2, 4}


def test_an_empty_collection_has_no_id_to_warm_up_with(network, tmp_path):
    searcher = make_searcher(network, make_index(network, num_items=0))
    path = save_searcher(searcher, tmp_path / "1")
    assert "search_by_id" not in {name for name, _ in read_warmup_requests(path)}


@pytest.mark.slow
def test_a_whole_folder_is_found_in_order_by_three_readers(version):
    report = verify_version(version)
    assert report.num_files == len(FILES) - 1
    assert report.num_items == 60
    assert report.num_requests == 18
    assert len(report.readers) == 3


@pytest.mark.slow
def test_a_folder_of_clips_is_found_in_order(tmp_path):
    network = make_clip_network()
    path = save_searcher(make_searcher(network, make_index(network)), tmp_path / "1")
    assert verify_version(path).num_requests == 18


@pytest.fixture
def copy(version, tmp_path):
    return shutil.copytree(version, tmp_path / "birds" / "3")


def change_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def refresh_checksums(folder):
    """What somebody would do who means harm, or writes folders of his own."""
    from tfpqn.export.model.version_folder import list_files

    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    files = list_files(folder)
    (folder.parent / "manifest.json").rename(folder / "manifest.json")
    change_manifest(folder, files=files)


@pytest.mark.parametrize("read", [verify_version, load_searcher])
@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
@pytest.mark.parametrize("fault", ["missing", "changed", "longer", "linked"])
def test_a_file_that_is_missing_changed_or_a_link_out_is_named(copy, name, fault, read):
    file = copy / name
    data = file.read_bytes()
    if fault == "missing":
        file.unlink()
    elif fault == "linked":
        file.symlink_to(file.rename(copy.parent.parent / file.name))
    else:
        place = len(data) // 2
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        file.write_bytes(changed if fault == "changed" else data + b"\0")
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        read(copy)


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("variables/")))
def test_variables_that_only_tensorflow_finds_torn_are_named(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-9])
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="birds/3' must be a SavedModel, whole"):
        load_searcher(copy)
    with pytest.raises(ValueError, match="birds/3' must be a version folder|be a SavedModel"):
        verify_version(copy)


@pytest.mark.parametrize(
    "change", [{"signatures": 5}, {"quantizer": "torn"}, {"num_items": [10**400]}], ids=str
)
def test_a_manifest_with_values_of_other_kinds_is_a_sentence(copy, change):
    change_manifest(copy, **change)
    with pytest.raises(ValueError, match="must be"):
        verify_version(copy)


def test_a_file_that_does_not_belong_there_is_named(copy):
    (copy / "more.txt").write_text("more")
    with pytest.raises(ValueError, match=r"more\.txt"):
        verify_version(copy)


def test_sizes_that_are_not_those_of_the_variables_are_named(copy):
    change_manifest(copy, num_items=61)
    with pytest.raises(ValueError, match="number of items: expected 61. Received: 60"):
        verify_version(copy)


def test_other_codebooks_are_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    change_manifest(copy, quantizer={**manifest["quantizer"], "codebooks_sha256": "ab"})
    with pytest.raises(ValueError, match="sha256 of codebooks: expected ab"):
        verify_version(copy)


def test_a_manifest_without_a_field_is_named(copy):
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="manifest.json must hold 'files'"):
        verify_version(copy)


@pytest.mark.parametrize("records", [[b"no proto"], [PredictionLog().SerializeToString()], None])
def test_warm_up_requests_that_a_server_could_not_read_are_named(copy, records):
    path = copy / WARMUP
    if records is None:
        path.write_bytes(b"torn" * 10)
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="TFRecord file of PredictionLog"):
        verify_version(copy)


def test_a_request_that_the_model_refuses_is_named(copy):
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = "search_by_embedding"
    tensor = tf.make_tensor_proto(np.full((1, 16), np.nan, np.float32))
    log.predict_log.request.inputs["embeddings"].CopyFrom(tensor)
    with tf.io.TFRecordWriter(str(copy / WARMUP)) as writer:
        writer.write(log.SerializeToString())
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="warm-up request 0 .*embeddings: expected finite"):
        verify_version(copy)


@pytest.mark.parametrize(
    "change",
    [{"id_type": "int64"}, {"top_k": -4}, {"items": "clips"}, {"calibration": {"a": 1}}],
    ids=str,
)
def test_a_manifest_that_contradicts_the_model_is_named(copy, change):
    change_manifest(copy, **change)
    with pytest.raises(ValueError, match="as its manifest says: facts"):
        verify_version(copy)


def test_a_manifest_of_another_format_is_refused(copy):
    change_manifest(copy, format_version=99)
    with pytest.raises(ValueError, match="expected format_version 1"):
        verify_version(copy)
