"""Laws of runs that start from another run, and of codebooks that are kept from it."""

import json
import shutil

import keras
import numpy as np
import pytest

from tests.training.tiny import (
    COMPILE_OPTIONS,
    arrays_of,
    assert_bit_equal,
    make_clips,
    make_images,
    make_network_with,
    make_splits,
)
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, build_index, network_layout
from tfpqn.layers import TemporalProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.training import Run, RunConfig, train
from tfpqn.training.runs import initial_run
from tfpqn.training.runs import train as run_training

CONFIG = RunConfig.of(bits=16, num_subspaces=4, embedding_dim=16, epochs=2, batch_size=16, seed=3)


class Stopped(Exception):
    """Raised in place of what comes after the copy."""


def train_in(folder, config, **options):
    run = Run.start(folder, config)
    train(run, make_splits(), progress=False, **options)
    return run


def frozen_from(source, **changes):
    start = {"initial_run": str(source.folder), "freeze_codebooks": True, "seed": 8}
    return CONFIG.replace(**start, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return train_in(tmp_path_factory.mktemp("runs") / "source", CONFIG)


@pytest.fixture(scope="module")
def frozen(source):
    return train_in(source.folder.with_name("frozen"), frozen_from(source))


def start_from(source, folder, monkeypatch, place):
    """A network of levels at the place where training is stopped."""
    seen = []

    def stop(network, *_, **__):
        seen.append(network)
        raise Stopped

    monkeypatch.setattr(run_training, place, stop)
    sizes = {"num_levels": 2, "num_subspaces": 2}
    start = {"model": "rpqn", "initial_run": str(source.folder), "seed": 4}
    with pytest.raises(Stopped):
        train_in(folder, CONFIG.replace(**start, **sizes))
    (network,) = seen
    return network


def test_all_but_the_codebooks_are_those_of_the_initial_run_until_the_first_step(
    source, tmp_path, monkeypatch
):
    network = start_from(source, tmp_path, monkeypatch, "fit")
    former = source.load_network()
    for part in ("backbone", "embedding", "classifier"):
        first, second = (getattr(one, part).trainable_variables for one in (network, former))
        assert_bit_equal(first, second)
    assert int(network.optimizer.iterations) == 0
    # These are fitted to its embeddings.
    images = make_images(seed=1).images
    embeddings = np.array(former.embed(images, training=True)).reshape(-1, 2, 8)
    for m, codebook in enumerate(np.array(network.quantizer.codebooks)[0]):
        cosines = codebook @ embeddings[:, m].T
        assert cosines.max(axis=1).min() > 0.7 * np.linalg.norm(codebook, axis=1).max()


def test_initial_weights_are_taken_once_and_not_after_a_checkpoint(
    source, frozen, tmp_path, monkeypatch
):
    shutil.copytree(frozen.folder, tmp_path / "run")
    (tmp_path / "run" / "network.keras").unlink()
    monkeypatch.delattr(run_training, "start_from")
    again = train_in(tmp_path / "run", frozen_from(source))
    assert_bit_equal(again.load_network().weights, frozen.load_network().weights)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"embedding_dim": 24}, "embedding"),
        ({"backbone": "resnet9"}, "back"),
        ({"freeze_codebooks": True, "bits": 24}, "quantizer"),
        ({"freeze_codebooks": True, "num_subspaces": 2}, "quantizer"),
    ],
    ids=str,
)
def test_initial_run_of_another_network_is_refused_by_its_shapes(source, tmp_path, settings, part):
    config = CONFIG.replace(initial_run=str(source.folder), **settings)
    with pytest.raises(ValueError, match=rf"initial run's {part}.* must be like.*Received: "):
        train_in(tmp_path, config)
    # Nothing binds the folder.
    assert not Run.open(tmp_path).has_begun


def test_initial_run_that_is_missing_or_not_trained_is_named(tmp_path):
    Run.start(tmp_path / "begun", CONFIG)
    for name, message in (("nowhere", r"must hold run\.json"), ("begun", "trained to its end")):
        config = CONFIG.replace(initial_run=str(tmp_path / name))
        with pytest.raises(FileNotFoundError, match=message) as caught:
            train_in(tmp_path / "run", config)
        assert str(tmp_path / name) in str(caught.value)


def codebooks_of(network):
    return np.array(keras.ops.convert_to_numpy(network.quantizer.codebooks))


def test_frozen_codebooks_are_those_of_the_initial_run_and_search_its_index(
    source, frozen, tmp_path
):
    first, second = source.load_network(), frozen.load_network()
    assert network_layout(second) == network_layout(first)
    np.testing.assert_array_equal(codebooks_of(second), codebooks_of(first))
    kernels = [arrays_of(network.embedding.weights)[0] for network in (first, second)]
    assert not np.array_equal(*kernels)
    history = json.loads((frozen.folder / "checkpoints" / "history.json").read_text())
    assert not any("codewords_revived" in epoch for epoch in history)
    splits = make_splits()
    build_index(first, splits.database, tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    embeddings = np.array(second.embed(splits.query.images[:4]))
    ids, scores = Searcher(second, index, top_k=3).search_by_embedding(embeddings)
    expected = embeddings @ np.array(second.quantizer.decode(index.codes)).T
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :3], rtol=1e-5, atol=1e-5)
    assert ids.shape == (4, 3)


def test_quantizer_of_another_kind_is_refused_though_its_codebooks_have_the_same_shape():
    """Segments 1 and 2 need as many codebooks as three segments, and mean something else."""
    networks = (
        make_network_with(TemporalProductQuantization(segments, 1, 16)) for segments in ((1, 2), 3)
    )
    with pytest.raises(ValueError, match="for its codes to stay valid.*3.*Received:.*1, 2"):
        initial_run.start_from(*networks, with_codebooks=True)


def test_plain_keras_leaves_frozen_codebooks_alone():
    network = make_network_with(TemporalProductQuantization(2, 2, 16))
    network.quantizer.trainable = False
    network.compile("adam", AsymmetricTripletLoss(), **COMPILE_OPTIONS)
    items = make_clips()
    images = next(iter(items.batches(32))).images
    before = codebooks_of(network)
    network.fit(images, items.labels[:32], batch_size=16, verbose=0)
    np.testing.assert_array_equal(codebooks_of(network), before)
