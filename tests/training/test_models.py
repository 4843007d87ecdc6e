"""Laws of runs with residual levels and of clips, and of runs that start from another run."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import (
    arrays_of,
    assert_bit_equal,
    make_clip_splits,
    make_images,
    make_splits,
)
from tfpqn.training import Run, RunConfig, evaluate_run, train
from tfpqn.training.loops import tensorflow_loop as loop
from tfpqn.training.runs import training as run_training

CONFIG = RunConfig(bits=8, embedding_dim=16, epochs=1, batch_size=16, seed=3)
RESIDUAL = dataclasses.replace(
    CONFIG,
    model="rpqn",
    num_levels=None,
    num_subspaces=None,
    residuals=None,
    unit_codewords=None,
    level_loss_weight=0.5,
    epochs=2,
)
CLIPS = RunConfig(
    model="tpqn", protocol="moving-digits", bits=8, embedding_dim=8, epochs=2, batch_size=16, seed=3
)
MODELS = {"rpqn": (RESIDUAL, make_splits), "tpqn": (CLIPS, make_clip_splits)}

every_model = pytest.mark.parametrize("model", MODELS)
# So few items leave levels almost unused, and a warning says so.
may_collapse = pytest.mark.filterwarnings("ignore:After epoch .* has collapsed:UserWarning")


def train_in(folder: Path, config: RunConfig, splits: Any, **settings: Any) -> Any:
    return train(Run.start(folder, config), splits, progress=False, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Finished runs by model: folder and network."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        model: (folder / model, train_in(folder / model, config, make()))
        for model, (config, make) in MODELS.items()
    }


@may_collapse
@every_model
def test_a_run_trains_to_its_end_and_can_be_loaded_and_measured(
    trained: dict[str, Any], model: str
) -> None:
    (folder, network), splits = trained[model], MODELS[model][1]()
    run = Run.open(folder)
    assert run.config == MODELS[model][0].for_items(splits.train)
    loaded = run.load_network()
    assert_bit_equal(loaded.variables, network.variables)
    history = json.loads((folder / "checkpoints" / "history.json").read_text())
    assert [np.isfinite(epoch["loss"]) for epoch in history] == [True] * 2
    metrics = evaluate_run(run, loaded, splits)
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert metrics["protocol"] == run.config.protocol
    assert len(metrics["prefixes"]) == (2 if model == "rpqn" else 0)
    assert RunConfig(**metrics["config"]) == run.config
    assert 0.25 < metrics["mAP"] <= 1


@may_collapse
@every_model
def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    trained: dict[str, Any], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, make = MODELS[model]

    def save_and_stop(state: Any, step: int) -> None:
        save(state, step)
        raise KeyboardInterrupt

    save = loop.TrainingState.save
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingState, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_in(tmp_path, config, make(), checkpoint_every=1)
    assert not Run.open(tmp_path).is_trained
    network = train_in(tmp_path, config, make(), checkpoint_every=None)
    assert_bit_equal(network.variables, trained[model][1].variables)


# Starting from another run


class Stopped(Exception):
    """Raised in place of what comes after the copy."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "source"
    train_in(folder, CONFIG, make_splits())
    return folder


def start_from(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, **settings: Any
) -> Any:
    """The network at the place where training is stopped."""
    seen = []

    def stop(network: Any, *_: Any, **__: Any) -> None:
        seen.append(network)
        raise Stopped

    monkeypatch.setattr(run_training, place, stop)
    config = dataclasses.replace(RESIDUAL, initial_run=str(source), seed=4, **settings)
    with pytest.raises(Stopped):
        train_in(folder, config, make_splits())
    (network,) = seen
    return network


def test_backbone_and_embedding_are_those_of_the_initial_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = start_from(source, tmp_path, monkeypatch, "initialize_codebooks")
    former = Run.open(source).load_network()
    for part in ("backbone", "embedding"):
        assert_bit_equal(getattr(network, part).weights, getattr(former, part).weights)


def test_classifier_is_that_of_the_initial_run_where_both_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_classifier = {"classification_weight": 1.0}
    train_in(tmp_path / "source", dataclasses.replace(CONFIG, **with_classifier), make_splits())
    settings = ({"classification_weight": 0.0}, with_classifier)
    without, network = (
        start_from(tmp_path / "source", tmp_path / name, monkeypatch, "fit", **chosen)
        for name, chosen in zip(("without", "with"), settings, strict=True)
    )
    former = Run.open(tmp_path / "source").load_network()
    assert without.classifier is None
    assert_bit_equal(network.classifier.weights, former.classifier.weights)


def test_nothing_is_trained_between_the_copy_and_the_first_step(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = start_from(source, tmp_path, monkeypatch, "fit")
    former = Run.open(source).load_network()
    for part in ("backbone", "embedding"):
        first, second = (getattr(one, part).trainable_variables for one in (network, former))
        assert_bit_equal(first, second)
    assert int(network.optimizer.iterations) == 0
    assert network.quantizer.codebooks.shape == (2, 2, 4, 8)


def test_codebooks_are_fitted_to_the_embeddings_of_the_initial_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = start_from(source, tmp_path, monkeypatch, "fit")
    images = make_images(seed=1).images
    former = Run.open(source).load_network()
    embeddings = np.array(former.embed(images, training=True)).reshape(len(images), 2, 8)
    for m, codebook in enumerate(np.array(network.quantizer.codebooks)[0]):
        cosines = codebook @ embeddings[:, m].T
        assert cosines.max(axis=1).min() > 0.7 * np.linalg.norm(codebook, axis=1).max()


def test_initial_weights_are_taken_once_and_not_after_a_checkpoint(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, initial_run=str(source), seed=4)
    train_in(tmp_path, config, make_splits())
    (tmp_path / "network.keras").unlink()
    monkeypatch.delattr(run_training, "_copy_weights")
    network = train_in(tmp_path, config, make_splits())
    fresh = arrays_of(Run.open(source).load_network().backbone.weights)
    changed = zip(arrays_of(network.backbone.weights), fresh, strict=True)
    assert not all(np.array_equal(one, two) for one, two in changed)


def test_initial_run_of_another_embedding_is_refused_by_its_shapes(
    source: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, initial_run=str(source), embedding_dim=24)
    with pytest.raises(ValueError, match="initial run's embedding must be like") as caught:
        train_in(tmp_path, config, make_splits())
    assert "24)" in str(caught.value) and "Received: [" in str(caught.value)
    # Nothing binds the folder.
    assert not Run.open(tmp_path).has_begun


def test_initial_run_of_another_backbone_is_refused_by_its_shapes(
    source: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, initial_run=str(source), backbone="resnet20")
    with pytest.raises(ValueError, match=r"initial run's backbone must be like.*Received: \["):
        train_in(tmp_path, config, make_splits())


def test_initial_run_that_is_missing_or_not_trained_is_named(tmp_path: Path) -> None:
    for name, message in (("nowhere", r"must hold run\.json"), ("begun", "trained to its end")):
        if name == "begun":
            Run.start(tmp_path / name, CONFIG)
        config = dataclasses.replace(CONFIG, initial_run=str(tmp_path / name))
        with pytest.raises(FileNotFoundError, match=message) as caught:
            train_in(tmp_path / "run", config, make_splits())
        assert str(tmp_path / name) in str(caught.value)
