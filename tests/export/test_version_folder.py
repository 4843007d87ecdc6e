"""The whole version folder, and what `verify_version` finds wrong in a spoilt one."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tests.export.tiny import NUM_ITEMS, make_index, make_network, make_searcher
from tfpqn.export import load_searcher, save_searcher
from tfpqn.export.interface.batching_parameters import BatchingParameters
from tfpqn.export.model.verify import verify_version
from tfpqn.export.model.version_folder import list_files, read_warmup_requests
from tfpqn.export.server.model_version import MAX_ROWS, ModelVersion

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
def version(exported):
    return exported("pqn")


@pytest.fixture
def copy(version, tmp_path):
    return shutil.copytree(version, tmp_path / "pqn" / "3")


def test_the_folder_holds_what_a_server_and_a_reader_need(version):
    files = {file.relative_to(version).as_posix() for file in version.rglob("*") if file.is_file()}
    assert files == FILES
    manifest = json.loads((version / "manifest.json").read_text())
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    parameters = BatchingParameters.read(version / "batching_params.pbtxt")
    assert parameters.max_batch_size == 32
    assert not parameters.pad_variable_length_inputs, "it pads by the first row's ids"
    text = (version / "README.txt").read_text()
    for line in ("/models/pqn/3/batching_params.pbtxt", "v1/models/pqn:predict", "search_k"):
        assert line in text
    assert r"{\"images\": [{\"b64\": \"$(base64 -w0 query.jpg)\"}]}" in text
    assert "$" not in text.replace("$PWD", "").replace("$(base64", "")


def test_each_signature_is_warmed_up_at_the_smallest_and_the_largest_batch(version):
    requests = list(read_warmup_requests(version))
    signatures = json.loads((version / "manifest.json").read_text())["signatures"]
    sizes = {name: [] for name in signatures}
    for name, inputs in requests:
        (size,) = {len(value) for value in inputs.values() if value.ndim}
        sizes[name].append(size)
    assert all(sorted(own) == [1, 32] for own in sizes.values()), sizes
    for record in tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "pqn"


@pytest.mark.slow
def test_allowed_batch_sizes_are_all_warmed_up_also_beyond_what_one_request_may_have(tmp_path):
    most = MAX_ROWS + 1
    batching = BatchingParameters(most, allowed_batch_sizes=(2, most))
    network = make_network()
    # Where there is no item, there is no id to warm up with.
    searcher = make_searcher(network, make_index(network, num_items=0))
    path = save_searcher(searcher, tmp_path / "1", batching=batching)
    assert BatchingParameters.read(path / "batching_params.pbtxt") == batching
    requests = list(read_warmup_requests(path))
    assert {len(i["embeddings"]) for _, i in requests if "embeddings" in i} == {2, most}
    assert "search_by_id" not in {name for name, _ in requests}
    ModelVersion.load(1, path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pqn", "tpqn", "pqn in lists"])
def test_a_whole_folder_is_found_in_order_by_three_readers(exported, kind):
    report = verify_version(exported(kind))
    assert report.num_files == len(FILES) - 1
    assert report.num_items == NUM_ITEMS
    assert report.num_requests == (22 if "lists" in kind else 20)
    assert len(report.readers) == 3


def change_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def refresh_checksums(folder):
    """What somebody would do who means harm, or writes folders of his own."""
    change_manifest(folder, files=list_files(folder))


@pytest.mark.parametrize("read", [verify_version, load_searcher])
@pytest.mark.parametrize("fault", ["missing", "changed", "longer", "linked"])
def test_a_file_that_is_missing_changed_or_a_link_out_is_named(copy, fault, read):
    file = copy / WARMUP
    data = file.read_bytes()
    if fault == "missing":
        file.unlink()
    elif fault == "linked":
        file.symlink_to(file.rename(copy.parent.parent / file.name))
    else:
        place = len(data) // 2
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        file.write_bytes(changed if fault == "changed" else data + b"\0")
    with pytest.raises((FileNotFoundError, ValueError), match=WARMUP):
        read(copy)


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("variables/")))
def test_variables_that_only_tensorflow_finds_torn_are_named(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-9])
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="pqn/3' must be a SavedModel, whole"):
        load_searcher(copy)
    with pytest.raises(ValueError, match="pqn/3' must be a version folder|be a SavedModel"):
        verify_version(copy)


def test_a_file_that_does_not_belong_there_is_named(copy):
    (copy / "more.txt").write_text("more")
    with pytest.raises(ValueError, match=r"more\.txt"):
        verify_version(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signatures": 5}, "must be"),
        ({"quantizer": "torn"}, "must be"),
        ({"num_items": [10**400]}, "must be"),
        ({"format_version": 99}, "with format_version 1.* Received: 99"),
        ({"num_items": 61}, "number of items: expected 61. Received: 60"),
        ({"quantizer": {"codebooks_sha256": "ab"}}, "sha256 of codebooks: expected ab"),
        ({"id_type": "string"}, "as its manifest says: id_type"),
        ({"top_k": -4}, "as its manifest says: top_k"),
        ({"items": "clips"}, "as its manifest says: items"),
        ({"calibration": None}, "as its manifest says: calibration"),
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_the_model_is_named(copy, change, message):
    change_manifest(copy, **change)
    with pytest.raises(ValueError, match=message):
        verify_version(copy)


@pytest.mark.parametrize("records", [[b"no proto"], [PredictionLog().SerializeToString()], None])
def test_warm_up_requests_that_a_server_could_not_read_are_named(copy, records):
    path = copy / WARMUP
    if records is None:
        path.write_bytes(b"torn" * 10)
    else:
        write_records(path, records)
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="TFRecord file of PredictionLog"):
        verify_version(copy)


def test_a_request_that_the_model_refuses_is_named(copy):
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = "search_by_embedding"
    tensor = tf.make_tensor_proto(np.full((1, 16), np.nan, np.float32))
    log.predict_log.request.inputs["embeddings"].CopyFrom(tensor)
    write_records(copy / WARMUP, [log.SerializeToString()])
    refresh_checksums(copy)
    with pytest.raises(ValueError, match="warm-up request 0 .*embeddings: expected finite"):
        verify_version(copy)


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
