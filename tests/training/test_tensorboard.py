"""Laws of what is written for TensorBoard: it is what evaluation and the network say."""

import io
from typing import NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image

from tests.training.tiny import make_clip_splits, make_images, make_network, make_network_with
from tfpqn.datasets import ImageArrays, Splits
from tfpqn.layers import TemporalProductQuantization
from tfpqn.training import LogToTensorBoard, encode_set, evaluate
from tfpqn.training.reports.tensorboard import write_projector

tf = pytest.importorskip("tensorflow")


class Event(NamedTuple):
    """What one summary says."""

    step: int
    name: str
    values: np.ndarray


def read_events(folder):
    from tensorboard.compat.proto.event_pb2 import Event as Record

    for path in sorted(folder.glob("events.*")):
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            record = Record.FromString(data)
            for value in record.summary.value:
                tensor = tf.io.parse_tensor(value.tensor.SerializeToString(), value.tensor.dtype)
                yield Event(record.step, value.tag, tensor.numpy())


def open_picture(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def make_splits(label_names):
    database, query = make_images(40, seed=1), make_images(8, seed=2)
    named = [
        ImageArrays(part.images, part.labels, [f"a\t{i}\n" for i in range(len(part))], label_names)
        for part in (database, query)
    ]
    return Splits(named[0], *named)


def test_each_nth_epoch_is_written_and_the_projector_at_the_end(tmp_path):
    splits, network = make_splits(("ant", "b\te", "c\nt", "dog")), make_network()
    callback = LogToTensorBoard(splits, tmp_path, every=2, max_projected=10)
    keras.callbacks.CallbackList([callback], model=network).on_train_begin()
    for epoch in range(4):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        assert ("mAP" in logs) is (epoch % 2 == 1)
    callback.on_train_end()

    events = list(read_events(tmp_path))
    figures = evaluate(network, splits)
    expected = {
        "retrieval/mAP": figures["mAP"],
        "retrieval/raw_mAP": figures["raw_embeddings"]["mAP"],
        "retrieval/codebook_usage": figures["codebook_usage"],
    }
    for name, value in expected.items():
        found = [(event.step, float(event.values)) for event in events if event.name == name]
        assert found == [(2, pytest.approx(value)), (4, pytest.approx(value))]
    codes = encode_set(network, splits.database).codes
    for position, column in enumerate(codes.T):
        name = f"codewords/position_{position}"
        *_, histogram = (event.values for event in events if event.name == name)
        used = [count for count in np.bincount(column) if count]
        # Each row of a histogram is left edge, right edge, count.
        assert [count for *_, count in histogram if count] == used

    rows = (tmp_path / "items.tsv").read_text().splitlines()
    assert rows[0] == "label\tid" and rows[2].split("\t") == ["ant", r"a\t4\n"]
    assert len(rows) == 11 and all(row.count("\t") == 1 for row in rows)
    picked = splits.database.subset(np.linspace(0, 39, 10).astype(int))
    embeddings = np.loadtxt(tmp_path / "embeddings.tsv", delimiter="\t")
    np.testing.assert_allclose(embeddings, encode_set(network, picked).embeddings, rtol=1e-4)
    assert open_picture(tmp_path / "pictures.png").size == (4 * 32, 4 * 32)


def test_tensorboard_reads_what_the_projector_is_given(tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    clips = make_clip_splits(6).database
    network = make_network_with(TemporalProductQuantization(2, 2, 8), 8)
    write_projector(network, clips, tmp_path)
    text = (tmp_path / "projector_config.pbtxt").read_text()
    (embedding,) = text_format.Parse(text, ProjectorConfig()).embeddings
    for name in (embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path):
        assert (tmp_path / name).is_file()
    assert list(embedding.sprite.single_image_dim) == [32, 32]
    sheet = open_picture(tmp_path / "pictures.png")
    (batch,) = clips.batches(6)
    middle = Image.fromarray(batch.images[4, 2, ..., 0]).resize((32, 32)).convert("RGB")
    np.testing.assert_array_equal(sheet.crop((32, 32, 64, 64)), middle)


def test_numbers_and_folders_are_refused_before_training(tmp_path):
    (tmp_path / "file").touch()
    for wrong in ({"every": 0}, {"every": 0.5}, {"max_queries": 0}, {"max_projected": 0}):
        with pytest.raises(ValueError, match="must be an integer of at least 1. Received: "):
            LogToTensorBoard(make_clip_splits(), tmp_path, **wrong)
    with pytest.raises(ValueError, match="log_dir must be a folder. Received: the file"):
        LogToTensorBoard(make_clip_splits(), tmp_path / "file")
