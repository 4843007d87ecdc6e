"""Laws of runs on vectors of another model, with labels and without."""

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfpqn.datasets import VectorSet, split_folder
from tfpqn.datasets.labels.numbering import number_classes
from tfpqn.training import Run, RunConfig, evaluate_run, train

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
CENTRES = RNG.normal(size=(3, 8))
VECTORS = (CENTRES[LABELS] + 0.6 * RNG.normal(size=(120, 8))).astype(np.float32)


def run_on(folder, vectors=VECTORS, strategy=None, **settings):
    folder.mkdir(exist_ok=True)
    np.save(folder / "all.npy", vectors)
    config = RunConfig.of(vectors=str(folder / "all.npy"), **settings)
    run = Run.start(folder / "run", config)
    splits = run.load_splits()
    return run, train(run, splits, progress=False, strategy=strategy), splits


def slow_recall(queries, items, found, n, k):
    shares = []
    for query, row in zip(queries, found, strict=True):
        nearest = np.argsort(np.square(items - query).sum(axis=1), kind="stable")[:n]
        shares.append(len(set(nearest) & set(row[:k])) / n)
    return float(np.mean(shares))


def test_vectors_without_labels_are_coded_as_they_are_and_measured_by_their_neighbours(
    tmp_path,
):
    run, network, splits = run_on(tmp_path, bits=12, num_subspaces=2, rotation="opq")
    config = run.for_items(splits.train).config
    assert (config.model.similarity, config.num_epochs) == ("l2", 0)
    kernel = np.asarray(network.rotation.kernel)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(8), atol=1e-5)
    figures = evaluate_run(run, run.load_network(), splits)
    assert figures["mAP"] is None and figures["not_measured"] == "the items have no labels"

    items = splits.database.vectors
    decoded = np.asarray(network.quantizer.decode(network.encode(items)))
    queries = np.asarray(network.embed(splits.query.vectors))
    found = np.argsort(np.square(queries[:, None] - decoded).sum(axis=2), axis=1, kind="stable")
    for name, share in figures["neighbour_recall"].items():
        n, k = map(int, name.split("@"))
        expected = slow_recall(splits.query.vectors, items, found, n, k)
        # Items of equal codes come in either order.
        assert share == pytest.approx(expected, abs=0.05)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy is TensorFlow's")
def test_vectors_without_labels_have_the_same_codes_under_a_strategy(tmp_path):
    import tensorflow as tf

    codes = []
    for number, strategy in enumerate((None, tf.distribute.MirroredStrategy(["CPU:0"]))):
        run, *_ = run_on(tmp_path / str(number), strategy=strategy, bits=8, num_subspaces=2)
        codes.append(np.asarray(run.load_network().encode(VECTORS)))
    assert np.array_equal(*codes)


def test_vectors_with_labels_in_a_table_are_trained_on(tmp_path):
    rows = [f"{row},{'abc'[label]}" for row, label in enumerate(LABELS)]
    (tmp_path / "labels.csv").write_text("\n".join(["row,label", *rows]))
    run, network, splits = run_on(
        tmp_path,
        labels=str(tmp_path / "labels.csv"),
        **{"bits": 8, "embedding_dim": 16, "epochs": 15, "batch_size": 30, "learning_rate": 0.01},
    )
    assert network.items.kind == "vectors" and network.quantizer.similarity == "subspace"
    assert run.for_items(splits.train).config.model.kind == "pqn"
    assert splits.train.label_names == ("a", "b", "c")
    assert evaluate_run(run, network, splits)["mAP"] > 0.9


def test_labelled_vectors_that_are_too_many_for_memory_are_left_out_with_a_warning(
    tmp_path, monkeypatch
):
    table = {"vector": list(VECTORS), "label": [str(label) for label in LABELS]}
    pq.write_table(pa.table(table), tmp_path / "all.parquet")
    settings = {"bits": 8, "embedding_dim": 16, "epochs": 1, "batch_size": 30}
    run = Run.start(
        tmp_path / "run", RunConfig.of(vectors=str(tmp_path / "all.parquet"), **settings)
    )
    monkeypatch.setattr("tfpqn.training.runs.train.HELD_BYTES", 60 * 4 * VECTORS.shape[1])
    with pytest.warns(UserWarning, match="takes 60 of the 1.. vectors, evenly spread"):
        train(run, run.load_splits(), progress=False)


def test_a_classifier_has_as_many_classes_as_labels_have_values(tmp_path):
    settings = {"bits": 8, "embedding_dim": 16, "epochs": 1, "batch_size": 30}
    run = Run.start(tmp_path, RunConfig.of(vectors="all.npy", **settings))
    splits = split_folder(VectorSet(VECTORS, LABELS * 10**12))
    assert train(run, splits, progress=False).num_classes == 3
    assert splits.train.labels.max() == 2 * 10**12


def test_classes_are_numbered_in_the_order_of_labels_without_names():
    labels = np.array([7, -1, 10**12, 7])
    assert number_classes(VectorSet(VECTORS[:4], labels)).labels.tolist() == [0, -1, 1, 0]
    for same in (VectorSet(VECTORS[:2], [0, 2], None, "abc"), VectorSet(VECTORS[:2], np.eye(2))):
        assert number_classes(same) is same


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 3}, "needs labels.*Received: 111 items without labels that differ, epochs=3"),
        ({"similarity": "subspace"}, "needs labels; without, leave epochs and similarity"),
        ({"similarity": "l2", "epochs": 2}, "fits codebooks to vectors.*Received: epochs=2"),
        ({"weights": "imagenet", "backbone": "conv3"}, "weights are those of a backbone"),
        ({"model": "tpqn"}, r"model must be one of \['pqn', 'rpqn'\] for 'vectors'"),
        ({"similarity": "cosine", "unit_codewords": True}, "similarity must be subspace with"),
        ({"similarity": "subspace", "rotation": "opq"}, "rotation is for codes of whole vectors"),
        ({"learning_rate": 0.01}, "nothing is trained.*labels and.*Received: learning_rate=0.01$"),
        (
            {"optimizer": "sgd", "dropout": 0.1, "batch_size": 7, "embedding_dim": 8},
            "Received: batch_size=7, embedding_dim=8, dropout=0.1, optimizer='sgd'$",
        ),
        ({"similarity": "l2", "initial_run": "run"}, "nothing is trained.*initial_run='.*run'"),
        (
            {"initial_run": "a", "freeze_codebooks": True},
            "initial_run='.*a', freeze_codebooks=True",
        ),
        ({"label_column": ("kind",)}, r"give labels. Received: label_column=\['kind'\]"),
        ({"image_size": 32, "backbone": "resnet9"}, "image_size=32, backbone='resnet9'$"),
        ({"bits": 24, "num_subspaces": 3}, "multiple of num_subspaces.*embedding_dim=8"),
        (
            {"model": "rpqn", "similarity": "l2", "bits": 64, "num_subspaces": 2},
            "and one for the norm.*bits must be 56 or 72 here.*Received: bits=64, num_subspaces=2",
        ),
        (
            {"model": "rpqn", "similarity": "dot", "bits": 100},
            "codebooks: bits must be 96 or 104 here",
        ),
    ],
)
def test_settings_that_vectors_without_labels_cannot_have_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run_on(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "model", "levels"),
    [
        ({}, "rpqn", 7),
        ({"similarity": "cosine", "bits": 24}, "rpqn", 2),
        ({"similarity": "l2", "bits": 16}, "pqn", 1),
        ({"similarity": "dot"}, "pqn", 1),
        ({"rotation": "opq"}, "pqn", 1),
        ({"num_subspaces": 4}, "pqn", 1),
        ({"model": "pqn"}, "pqn", 1),
    ],
    ids=str,
)
def test_vectors_without_labels_have_levels_where_these_fit_the_other_settings(
    settings, model, levels
):
    config = RunConfig.of(vectors="all.npy", **settings).for_items(VectorSet(VECTORS)).model
    assert (config.kind, config.num_levels) == (model, levels)


@pytest.mark.parametrize("change", [(1.0, 1e4), (1e18, 0.0), (1e-30, 0.0)])
def test_distances_that_float32_cannot_tell_are_refused(tmp_path, change):
    scale, offset = change
    with pytest.raises(ValueError, match="subtract their mean, or scale them.*Received: a mean of"):
        run_on(tmp_path, VECTORS * np.float32(scale) + np.float32(offset), bits=8, num_subspaces=2)


def test_other_vectors_in_the_place_of_those_trained_on_are_told(tmp_path):
    run, _, _ = run_on(tmp_path, bits=8, num_subspaces=2)
    np.save(tmp_path / "all.npy", VECTORS[::-1])
    with pytest.warns(UserWarning, match="other contents than when training began"):
        train(run, run.load_splits(), progress=False)


def test_vectors_of_zeros_have_no_cosine(tmp_path):
    vectors = np.where(np.arange(120)[:, None] % 2, VECTORS, 0.0)
    with pytest.raises(ValueError, match="must have a direction.*vectors of zeros.*l2"):
        run_on(tmp_path, vectors, similarity="cosine", bits=8, num_subspaces=2)
