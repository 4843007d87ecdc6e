"""Laws of training on: codebooks that are frozen stay bit by bit, and old codes stay valid."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from tests.training.tiny import (
    arrays_of,
    assert_bit_equal,
    make_clips,
    make_images,
    make_network_with,
    make_splits,
)
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, build_index, network_layout
from tfpqn.layers import ResidualProductQuantization, TemporalProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.training import Run, RunConfig, train
from tfpqn.training.loops import tensorflow_loop as loop
from tfpqn.training.runs import training as run_training

CONFIG = RunConfig(bits=16, embedding_dim=16, epochs=2, batch_size=16, seed=3)


class Pair(NamedTuple):
    """A trained run, and one that was trained on from it with its codebooks."""

    first: Run
    second: Run
    splits: Any


def train_in(folder: Path, config: RunConfig, splits: Any, **settings: Any) -> Run:
    run = Run.start(folder, config)
    train(run, splits, progress=False, **settings)
    return run


def trained_on(first: Path, **changes: Any) -> RunConfig:
    return dataclasses.replace(
        CONFIG, initial_run=str(first), freeze_codebooks=True, seed=8, **changes
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("frozen")
    splits = make_splits()
    first = train_in(folder / "first", CONFIG, splits)
    return Pair(first, train_in(folder / "second", trained_on(first.folder), splits), splits)


def codebooks_of(network: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(network.quantizer.codebooks))


def test_frozen_codebooks_are_those_of_the_initial_run(pair: Pair) -> None:
    first, second = pair.first.load_network(), pair.second.load_network()
    assert network_layout(second) == network_layout(first)
    np.testing.assert_array_equal(codebooks_of(second), codebooks_of(first))
    kernels = [arrays_of(network.embedding.weights)[0] for network in (first, second)]
    assert not np.array_equal(*kernels)


def test_old_index_is_searched_by_the_network_that_was_trained_on(
    pair: Pair, tmp_path: Path
) -> None:
    build_index(pair.first.load_network(), pair.splits.database, tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    second = pair.second.load_network()
    searcher = Searcher(second, index, top_k=3)
    items = next(iter(pair.splits.query.batches(4))).images
    embeddings = np.array(second.embed(items))
    ids, scores = searcher.search_by_embedding(embeddings)
    expected = embeddings @ np.array(second.quantizer.decode(index.codes)).T
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :3], rtol=1e-5, atol=1e-5)
    assert ids.shape == (4, 3)


def test_nothing_is_revived_in_a_frozen_run(pair: Pair) -> None:
    history = json.loads((pair.second.folder / "checkpoints" / "history.json").read_text())
    assert len(history) == 2
    assert not any("codewords_revived" in epoch for epoch in history)


def test_loaded_network_stays_frozen(pair: Pair) -> None:
    network = pair.second.load_network()
    assert not network.quantizer.trainable
    assert not any("codebooks" in variable.path for variable in network.trainable_variables)
    before = codebooks_of(network)
    items = next(iter(pair.splits.train.batches(16)))
    network.fit(items.images, pair.splits.train.labels[items.positions], verbose=0)
    np.testing.assert_array_equal(codebooks_of(network), before)


def test_interrupted_frozen_run_ends_like_one_that_was_not(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = loop.TrainingState.save

    def save_and_die(state: Any, step: int) -> None:
        save(state, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingState, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_in(tmp_path, pair.second.config, pair.splits, checkpoint_every=3)
    run = train_in(tmp_path, pair.second.config, pair.splits, checkpoint_every=3)
    assert_bit_equal(run.load_network().weights, pair.second.load_network().weights)


@pytest.mark.parametrize("change", [{"bits": 24}, {"num_subspaces": 2}], ids=str)
def test_initial_run_with_other_codebooks_is_refused(
    pair: Pair, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="initial run's quantizer must be like the network's"):
        train_in(tmp_path, trained_on(pair.first.folder, **change), pair.splits)


def test_quantizer_of_another_kind_is_refused_though_its_codebooks_have_the_same_shape() -> None:
    """Segments 1 and 2 need as many codebooks as three segments, and mean something else."""
    source, network = (
        make_network_with(TemporalProductQuantization(segments, 1, 16)) for segments in ((1, 2), 3)
    )
    with pytest.raises(ValueError, match="for its codes to stay valid.*3.*Received:.*1, 2"):
        run_training._copy_weights(source, network, with_codebooks=True)


def test_freezing_needs_a_run_to_take_the_codebooks_from() -> None:
    with pytest.raises(ValueError, match="freeze_codebooks needs initial_run.*initial_run=None"):
        RunConfig(freeze_codebooks=True)
    config = RunConfig(freeze_codebooks=True, initial_run="run")
    assert RunConfig(**json.loads(json.dumps(config.to_json()))) == config


def test_settings_written_before_codebooks_could_be_frozen_mean_the_same(tmp_path: Path) -> None:
    settings = RunConfig().to_json()
    del settings["freeze_codebooks"]
    (tmp_path / "run.json").write_text(json.dumps(settings))
    assert Run.open(tmp_path).config == RunConfig()
    (tmp_path / "network.keras").touch()
    assert Run.start(tmp_path, RunConfig()).config == RunConfig()


@pytest.mark.parametrize(
    "quantizer",
    [ResidualProductQuantization(2, 2, 16), TemporalProductQuantization(2, 2, 16)],
    ids=["images", "clips"],
)
def test_plain_keras_leaves_frozen_codebooks_alone(quantizer: Any, tmp_path: Path) -> None:
    network = make_network_with(quantizer)
    network.quantizer.trainable = False
    network.compile("adam", AsymmetricTripletLoss())
    items = make_clips() if network.items.kind == "clips" else make_images()
    images = next(iter(items.batches(32))).images
    before = codebooks_of(network)
    embedding = arrays_of(network.embedding.weights)
    network.fit(images, items.labels[:32], batch_size=16, verbose=0)
    np.testing.assert_array_equal(codebooks_of(network), before)
    assert not np.array_equal(arrays_of(network.embedding.weights)[0], embedding[0])
    # Saved and loaded, with its optimizer, it is still frozen.
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    loaded.fit(images, items.labels[:32], batch_size=16, verbose=0)
    np.testing.assert_array_equal(codebooks_of(loaded), before)
