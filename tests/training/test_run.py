"""Laws of a run's folder: it says what it is, and holds a whole network or none."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from tests.training.tiny import assert_bit_equal, make_clip_splits, make_splits
from tfpqn.datasets import load_protocol
from tfpqn.models import ProductQuantizationNetwork
from tfpqn.training import Run, RunConfig, evaluate, evaluate_run, train
from tfpqn.training.runs import precision
from tfpqn.training.runs import train as run_training
from tfpqn.training.settings.settings_file import settings_from_json, settings_to_json

CONFIG = RunConfig.plain(
    bits=16, num_subspaces=4, embedding_dim=16, epochs=2, batch_size=16, seed=3
)
SMALL = {"embedding_dim": 8, "epochs": 2, "batch_size": 16, "seed": 3, "bits": 8}
MODELS = {
    "rpqn": (RunConfig.of(model="rpqn", **SMALL), make_splits),
    "tpqn": (RunConfig.of(model="tpqn", **SMALL), make_clip_splits),
}


class Trained(NamedTuple):
    """A finished run and the network that its training returned."""

    run: Run
    network: Any


def train_in(folder, config=CONFIG, splits=None, **options):
    run = Run.start(folder, config)
    return Trained(run, train(run, splits or make_splits(), progress=False, **options))


def read_history(run):
    return json.loads((run.folder / "checkpoints" / "history.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "deep" / "run"
    return train_in(folder, checkpoint_every=3, evaluate_every=2)


def test_started_run_can_be_opened_by_its_folder_alone(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"must hold run\.json") as caught:
            Run.open(folder)
        assert str(folder) in str(caught.value)
    started = Run.start(str(tmp_path / "run"), CONFIG)
    assert Run.open(str(tmp_path / "run")) == started
    assert (started.config, started.is_trained) == (CONFIG, False)
    with pytest.raises(FileNotFoundError, match="must be trained to its end first.*not begun"):
        started.load_network()


def test_trained_run_goes_on_with_equal_settings_and_names_those_that_differ(trained, monkeypatch):
    folder = trained.run.folder
    assert Run.start(folder, CONFIG) == trained.run
    with pytest.raises(ValueError, match="its own settings") as caught:
        Run.start(folder, CONFIG.replace(bits=32, augment=True))
    message = str(caught.value)
    assert "augment=False -> True" in message and "bits=16 -> 32" in message
    assert str(folder) in message
    assert Run.open(folder).config == CONFIG
    # What is trained is loaded.
    monkeypatch.delattr(run_training, "fit")
    assert_bit_equal(train_in(folder).network.variables, trained.network.variables)


@pytest.mark.parametrize(
    "text",
    ["", '{"bits": 16', "[1]", '{"bits": 16, "colour": "red"}', "[" * 100_000]
    + ['{"bits": "16"}', '{"bits": true}', '{"bits": 16.5}', '{"augment": "no"}', '{"seed": null}']
    + ['{"num_segments": [1, "2"]}', '{"num_segments": 2}', '{"model": {"bits": "16"}}']
    + ['{"model": {"colour": 1}}', '{"paint": {"bits": 16}}'],
)
def test_settings_that_cannot_be_read_are_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json") as caught:
        Run.open(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_setting_that_training_refuses_does_not_bind_the_folder(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size must lie in 1 \.\. 64.*Received: 65"):
        train_in(tmp_path, CONFIG.replace(batch_size=65))
    assert Run.start(tmp_path, CONFIG).config == CONFIG == Run.open(tmp_path).config


def test_finished_run_may_be_given_more_epochs_at_the_learning_rates_of_the_longer_run(tmp_path):
    short, longer = (CONFIG.replace(epochs=epochs) for epochs in (1, 3))
    first = train_in(tmp_path / "run", short)
    first.run.write_metrics({"mAP": 0.5})
    (first.run.folder / "report.html").touch()
    # Entered at once, so that one that is killed before its next checkpoint goes on too.
    Run.start(tmp_path / "run", longer)
    assert not first.run.is_trained
    assert first.run.read_metrics() is None
    assert not (first.run.folder / "report.html").exists()
    prolonged = train_in(tmp_path / "run", longer)
    settings = longer.replace(earlier_epochs=(1,))
    assert prolonged.run.config == Run.open(tmp_path / "run").config == settings
    rates = [epoch["learning_rate"] for epoch in read_history(prolonged.run)]
    assert rates == pytest.approx([0, CONFIG.optimization.learning_rate / 4, 0], abs=1e-9)
    kept = keras.saving.load_model(tmp_path / "run" / "network-1-epochs.keras")
    assert kept.compiled
    assert_bit_equal(kept.variables, first.network.variables)

    with pytest.raises(ValueError, match=r"Received: epochs=3 -> 1$"):
        Run.start(tmp_path / "run", short)


@pytest.mark.slow
def test_earlier_epochs_are_settings_which_end_with_equal_weights(tmp_path):
    short, longer = (CONFIG.replace(epochs=epochs) for epochs in (1, 3))
    train_in(tmp_path / "run", short)
    prolonged = train_in(tmp_path / "run", longer).network
    again = train_in(tmp_path / "again", longer.replace(earlier_epochs=(1,))).network
    assert_bit_equal(again.variables, prolonged.variables)
    assert_bit_equal(again.optimizer.variables, prolonged.optimizer.variables)


def test_run_that_has_not_ended_or_has_other_settings_is_not_prolonged(trained, tmp_path):
    shutil.copytree(trained.run.folder, tmp_path / "run")
    longer = CONFIG.replace(epochs=3)
    with pytest.raises(ValueError, match="Received: epochs=2 -> 3, seed=3 -> 4"):
        Run.start(tmp_path / "run", longer.replace(seed=4))
    history = tmp_path / "run" / "checkpoints" / "history.json"
    history.write_text(json.dumps(read_history(trained.run)[:1]))
    with pytest.raises(ValueError, match="once it has ended.*Received: epochs=2 -> 3$"):
        Run.start(tmp_path / "run", longer)
    # Nor is one whose checkpoint is gone: it would begin anew.
    history.write_text(json.dumps(read_history(trained.run)))
    checkpoint = (tmp_path / "run" / "checkpoints" / "checkpoint.npz").rename(tmp_path / "kept.npz")
    with pytest.raises(ValueError, match="while its checkpoint is there. Received: epochs=2 -> 3$"):
        Run.start(tmp_path / "run", longer)
    assert Run.open(tmp_path / "run").is_trained
    checkpoint.rename(tmp_path / "run" / "checkpoints" / "checkpoint.npz")
    Run.start(tmp_path / "run", longer)
    assert Run.open(tmp_path / "run").config.optimization.earlier_epochs == (2,)


def test_run_is_trained_by_one_at_a_time_and_by_its_own_settings(tmp_path):
    others = CONFIG.replace(bits=32)
    mine, yours = (Run.start(tmp_path, config) for config in (CONFIG, others))
    with mine.lock():
        for action in (
            lambda: Run.start(tmp_path, others),
            lambda: train(yours, make_splits(), progress=False),
        ):
            with pytest.raises(BlockingIOError, match="run must have one writer at a time"):
                action()
    # What killed processes were saving is removed.
    (tmp_path / ".network-123.keras").write_bytes(b"half a network")
    train(mine, make_splits(), progress=False)
    assert not list(tmp_path.glob(".network*"))
    assert Run.open(tmp_path).config == CONFIG
    with pytest.raises(ValueError, match="own settings.*bits=16 -> 32"):
        train(yours, make_splits(), progress=False)


@pytest.mark.parametrize(("flags", "warns"), [("", True), ("amx_bf16", False)])
def test_half_precision_is_taken_as_the_settings_say_with_a_warning_where_it_may_be_slow(
    tmp_path, monkeypatch, flags, warns
):
    (tmp_path / "cpuinfo").write_text(f"flags : fpu avx2 {flags}")
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    config = CONFIG.replace(precision="mixed_bfloat16", epochs=0)
    message = "mixed_bfloat16 may be much slower than float32"
    with pytest.warns(UserWarning, match=message) if warns else contextlib.nullcontext():
        network = train_in(tmp_path / "run", config).network
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in network.backbone.layers}


def test_evaluations_are_in_the_history(trained):
    history = read_history(trained.run)
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert ["mAP" in epoch for epoch in history] == [False, True]
    figures = evaluate(trained.network, make_splits())
    assert history[1]["mAP"] == pytest.approx(figures["mAP"], rel=1e-6)
    assert "codewords_revived" in history[0]


def test_failing_save_leaves_no_half_network_and_loses_nothing(trained, tmp_path, monkeypatch):
    def write_half(network, path):
        Path(path).write_bytes(b"half a network")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProductQuantizationNetwork, "save", write_half)
        with pytest.raises(KeyboardInterrupt):
            train_in(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"run.json", "checkpoints", "logs"}

    def no_step(*_):
        raise AssertionError("a step was trained anew")

    monkeypatch.setattr("tfpqn.training.loops.tensorflow_loop._train_step", no_step)
    # Neither checkpoints nor evaluations leave a trace in the weights: the settings decide them.
    assert_bit_equal(train_in(tmp_path).network.variables, trained.network.variables)


def test_figures_are_written_with_protocol_and_settings(trained, tmp_path, monkeypatch):
    run = Run.start(tmp_path, CONFIG)
    assert run.read_metrics() is None
    splits = make_splits()
    metrics = evaluate_run(run, trained.network, splits)
    assert metrics == run.read_metrics()
    assert metrics["protocol"] == "digits"
    assert metrics["description"] == load_protocol("digits").description
    assert metrics["config"] == settings_to_json(CONFIG)
    figures = evaluate(trained.network, splits)
    assert {name: metrics[name] for name in figures} == figures
    # Those of another protocol take the place of the first, and say so.
    other = evaluate_run(run, trained.network, splits, "cifar10-full")
    assert other["description"] == load_protocol("cifar10-full").description
    folder = Run.start(tmp_path / "other", CONFIG.replace(protocol=None, images="birds"))
    assert evaluate_run(folder, trained.network, splits)["protocol"] == str(Path.cwd() / "birds")


def test_codewords_without_unit_length_are_settled_once_training_has_ended(tmp_path, monkeypatch):
    settled = []

    def settle(network, batches, seed):
        settled.append(np.concatenate(list(batches)))

    monkeypatch.setattr(run_training, "settle_codebooks", settle)
    config = CONFIG.replace(unit_codewords=False, epochs=1)
    train_in(tmp_path, config)
    (images,) = settled
    np.testing.assert_array_equal(images, make_splits().train.images)
    frozen = config.replace(initial_run="run", freeze_codebooks=True)
    assert not frozen.model.settles_codebooks and not CONFIG.model.settles_codebooks


def test_without_epochs_codewords_of_their_own_length_are_the_centres(tmp_path):
    """That is product quantization as it is without a network: no codeword is normalised."""
    network = train_in(tmp_path, CONFIG.replace(unit_codewords=False, epochs=0)).network
    images = make_splits().train.images
    quantizer = network.quantizer
    subvectors = np.array(quantizer.normalize(network.embed(images))).reshape(len(images), 4, -1)
    codes = np.array(quantizer.encode(network.embed(images)))
    for m, k in {(m, k) for code in codes for m, k in enumerate(code)}:
        centre = subvectors[codes[:, m] == k, m].mean(axis=0)
        np.testing.assert_allclose(quantizer.codebooks[m, k], centre, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:After epoch .* has collapsed:UserWarning")
@pytest.mark.parametrize("model", [pytest.param("rpqn", marks=pytest.mark.slow), "tpqn"])
def test_runs_of_levels_and_of_clips_are_trained_and_measured(model, tmp_path):
    config, make = MODELS[model]
    network = train_in(tmp_path, config, make()).network
    run = Run.open(tmp_path)
    assert run.config == config.for_items(make().train)
    metrics = evaluate_run(run, network, make())
    assert len(metrics["prefixes"]) == (2 if model == "rpqn" else 0)
    assert settings_from_json(metrics["config"]) == run.config
    assert 0.25 < metrics["mAP"] <= 1
