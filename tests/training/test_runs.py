"""Laws of a run's folder: it says what it is, and holds a whole network or none."""

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from tests.training.tiny import arrays_of, assert_bit_equal, make_images, make_splits
from tfpqn.datasets import load_protocol
from tfpqn.models import ProductQuantizationNetwork
from tfpqn.training import Run, RunConfig, evaluate, evaluate_run, train
from tfpqn.training.runs import training as run_training
from tfpqn.training.settings.run_config import PLAIN

CONFIG = RunConfig(
    **{**PLAIN, "bits": 16, "embedding_dim": 16, "epochs": 2, "batch_size": 16, "seed": 3}
)


class Trained(NamedTuple):
    """A finished run and the network that its training returned."""

    run: Run
    network: Any


def train_in(folder: Path, config: RunConfig = CONFIG, **settings: Any) -> Trained:
    run = Run.start(folder, config)
    return Trained(run, train(run, make_splits(), progress=False, **settings))


def read_history(run: Run) -> list[dict[str, float]]:
    return json.loads((run.folder / "checkpoints" / "history.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("runs") / "deep" / "run"
    return train_in(folder, checkpoint_every=3, evaluate_every=2)


def test_started_run_can_be_opened_by_its_folder_alone(tmp_path: Path) -> None:
    started = Run.start(str(tmp_path / "run"), CONFIG)
    assert Run.open(str(tmp_path / "run")) == started
    assert started.config == CONFIG
    assert not started.is_trained
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings == CONFIG.to_json()


def test_trained_run_goes_on_with_equal_settings_and_names_those_that_differ(
    trained: Trained,
) -> None:
    folder = trained.run.folder
    assert Run.start(folder, CONFIG) == trained.run
    with pytest.raises(ValueError, match="its own settings") as caught:
        Run.start(folder, dataclasses.replace(CONFIG, bits=32, augment=True))
    assert "Received: bits=16 -> 32, augment=False -> True" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert Run.open(folder).config == CONFIG


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"must hold run\.json") as caught:
            Run.open(folder)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", '{"bits": 16', "[1]", '{"bits": 16, "colour": "red"}', "[" * 100_000]
    + ['{"bits": "16"}', '{"bits": true}', '{"bits": 16.5}', '{"augment": "no"}', '{"seed": null}']
    + ['{"alpha": "5"}', '{"num_segments": [1, "2"]}', '{"num_segments": 2}', '{"backbone": []}'],
)
def test_settings_that_cannot_be_read_are_an_error_that_names_the_file(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json") as caught:
        Run.open(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "conv4"}, "Unknown backbone"),
        ({"embedding_dim": 18}, "embedding_dim must be a multiple"),
        ({"batch_size": 65}, r"batch_size must lie in 1 \.\. 64.*Received: 65"),
    ],
    ids=str,
)
def test_setting_that_training_refuses_does_not_bind_the_folder(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_in(tmp_path, dataclasses.replace(CONFIG, **wrong))
    assert Run.start(tmp_path, CONFIG).config == CONFIG
    assert Run.open(tmp_path).config == CONFIG


def test_run_that_is_not_trained_says_so(tmp_path: Path) -> None:
    run = Run.start(tmp_path, CONFIG)
    with pytest.raises(FileNotFoundError, match="must be trained to its end first.*tfpqn train"):
        run.load_network()


def test_saved_network_is_the_trained_one(trained: Trained) -> None:
    assert trained.run.is_trained
    loaded = trained.run.load_network()
    assert_bit_equal(loaded.variables, trained.network.variables)
    images = make_images().images
    np.testing.assert_array_equal(loaded.encode(images), trained.network.encode(images))
    assert {path.name for path in trained.run.folder.iterdir()} >= {
        "machine.json",
        "run.json",
        "network.keras",
        "checkpoints",
        "logs",
    }


def test_training_a_trained_run_loads_it(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(run_training, "fit")
    again = train_in(trained.run.folder)
    assert_bit_equal(again.network.variables, trained.network.variables)


def test_finished_run_may_be_given_more_epochs_at_the_learning_rates_of_the_longer_run(
    tmp_path: Path,
) -> None:
    short, longer = (dataclasses.replace(CONFIG, epochs=epochs) for epochs in (1, 3))
    first = train_in(tmp_path / "run", short)
    first.run.write_metrics({"mAP": 0.5})
    # Entered at once, so that one that is killed before its next checkpoint goes on too.
    Run.start(tmp_path / "run", longer)
    assert not first.run.is_trained
    assert first.run.read_metrics() is None
    prolonged = train_in(tmp_path / "run", longer)
    settings = dataclasses.replace(longer, earlier_epochs=(1,))
    assert prolonged.run.config == Run.open(tmp_path / "run").config == settings
    rates = [epoch["learning_rate"] for epoch in read_history(prolonged.run)]
    assert rates == pytest.approx([0, CONFIG.learning_rate / 4, 0], abs=1e-9)
    kept = keras.saving.load_model(tmp_path / "run" / "network-1-epochs.keras")
    assert_bit_equal(kept.variables, first.network.variables)

    # Equal settings end with equal weights: these are settings of their own.
    again = train_in(tmp_path / "again", settings)
    assert_bit_equal(again.network.variables, prolonged.network.variables)
    assert_bit_equal(again.network.optimizer.variables, prolonged.network.optimizer.variables)
    with pytest.raises(ValueError, match=r"Received: epochs=3 -> 1$"):
        Run.start(tmp_path / "run", short)


def test_run_that_has_not_ended_or_has_other_settings_is_not_prolonged(
    trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained.run.folder, tmp_path / "run")
    longer = dataclasses.replace(CONFIG, epochs=3)
    with pytest.raises(ValueError, match="Received: epochs=2 -> 3, seed=3 -> 4"):
        Run.start(tmp_path / "run", dataclasses.replace(longer, seed=4))
    history = tmp_path / "run" / "checkpoints" / "history.json"
    history.write_text(json.dumps(read_history(trained.run)[:1]))
    with pytest.raises(ValueError, match="once it has ended.*Received: epochs=2 -> 3$"):
        Run.start(tmp_path / "run", longer)


def test_run_is_trained_by_one_at_a_time_and_by_its_own_settings(tmp_path: Path) -> None:
    others = dataclasses.replace(CONFIG, bits=32)
    mine, yours = (Run.start(tmp_path, config) for config in (CONFIG, others))
    with mine.lock():
        for action in (
            lambda: Run.start(tmp_path, others),
            lambda: train(yours, make_splits(), progress=False),
        ):
            with pytest.raises(BlockingIOError, match="run must have one writer at a time"):
                action()
    train(mine, make_splits(), progress=False)
    assert Run.open(tmp_path).config == CONFIG
    with pytest.raises(ValueError, match="own settings.*bits=16 -> 32"):
        train(yours, make_splits(), progress=False)


def test_leftovers_of_killed_trainings_are_removed_by_the_next(tmp_path: Path) -> None:
    run = Run.start(tmp_path, CONFIG)
    (tmp_path / "checkpoints" / "ckpt-9_temp").mkdir(parents=True)
    (tmp_path / "checkpoints" / "ckpt-9_temp" / "part-00000").write_bytes(b"half")
    (tmp_path / ".network-123.keras").write_bytes(b"half a network")
    train(run, make_splits(), progress=False)
    assert not [path for path in tmp_path.rglob("*") if "temp" in path.name or "123" in path.name]


def test_settings_decide_the_weights(trained: Trained, tmp_path: Path) -> None:
    again = train_in(tmp_path / "again")
    # Neither checkpoints nor evaluations leave a trace in the weights.
    assert_bit_equal(again.network.variables, trained.network.variables)
    other = train_in(tmp_path / "other", dataclasses.replace(CONFIG, seed=4))
    pairs = zip(arrays_of(other.network.weights), arrays_of(again.network.weights), strict=True)
    assert not all(np.array_equal(one, two) for one, two in pairs)


def test_evaluations_are_in_the_history(trained: Trained) -> None:
    history = read_history(trained.run)
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert ["mAP" in epoch for epoch in history] == [False, True]
    figures = evaluate(trained.network, make_splits())
    assert history[1]["mAP"] == pytest.approx(figures["mAP"], rel=1e-6)
    assert all("codewords_revived" in epoch for epoch in history[:1])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failing_save_leaves_no_half_network_and_loses_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def write_half(network: Any, path: Path) -> None:
        Path(path).write_bytes(b"half a network")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ProductQuantizationNetwork, "save", write_half)
        with pytest.raises(type(error)):
            train_in(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json",
        "machine.json",
        "checkpoints",
        "logs",
    }
    assert not Run.open(tmp_path).is_trained

    def no_step(*_: Any) -> None:
        raise AssertionError("a step was trained anew")

    monkeypatch.setattr("tfpqn.training.loops.tensorflow_loop._train_step", no_step)
    finished = train_in(tmp_path)
    assert_bit_equal(finished.network.variables, trained.network.variables)


def test_figures_are_written_with_protocol_and_settings(trained: Trained, tmp_path: Path) -> None:
    run = Run.start(tmp_path, CONFIG)
    assert run.read_metrics() is None
    splits = make_splits()
    metrics = evaluate_run(run, trained.network, splits)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics == run.read_metrics()
    assert metrics["protocol"] == "digits"
    assert metrics["description"] == load_protocol("digits").description
    assert metrics["config"] == CONFIG.to_json()
    figures = evaluate(trained.network, splits)
    assert {name: metrics[name] for name in figures} == figures
    # Those of another protocol take the place of the first, and say so.
    assert evaluate_run(run, trained.network, splits, "cifar10-full")["protocol"] == "cifar10-full"
    assert run.read_metrics()["description"] == load_protocol("cifar10-full").description


def test_figures_of_a_folder_name_the_folder(trained: Trained, tmp_path: Path) -> None:
    run = Run.start(tmp_path, dataclasses.replace(CONFIG, protocol=None, images="birds"))
    metrics = evaluate_run(run, trained.network, make_splits())
    assert metrics["protocol"] == str(Path.cwd() / "birds")
    assert "folder" in metrics["description"]


def test_failing_write_leaves_the_former_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.start(tmp_path, CONFIG)
    run.write_metrics({"mAP": 0.5})

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        run.write_metrics({"mAP": 0.75})
    assert run.read_metrics() == {"mAP": 0.5}
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "metrics.json"}


@pytest.mark.parametrize(("count", "sizes"), [(5, [4, 1]), (64, [4] * 16), (500, [4] * 16)])
def test_sample_is_spread_evenly_over_the_set(count: int, sizes: list[int]) -> None:
    images = make_images()
    batches = list(run_training.sample_batches(images, count, batch_size=4))
    assert [len(batch) for batch in batches] == sizes
    drawn = np.concatenate(batches)
    step = 63 / (min(count, 64) - 1)
    for place, image in enumerate(drawn):
        np.testing.assert_array_equal(image, images.images[int(place * step + 1e-9)])


def test_network_in_the_folder_is_a_plain_keras_file(trained: Trained) -> None:
    loaded = keras.saving.load_model(trained.run.folder / "network.keras")
    assert isinstance(loaded, ProductQuantizationNetwork)
    assert loaded.compiled


def test_codewords_without_unit_length_are_settled_once_training_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = []

    def settle(network: Any, batches: Any, seed: int) -> None:
        settled.append(np.concatenate(list(batches)))
        runs_settle(network, settled[-1:], seed=seed)

    runs_settle = run_training.settle_codebooks
    monkeypatch.setattr(run_training, "settle_codebooks", settle)
    config = dataclasses.replace(CONFIG, unit_codewords=False)
    trained = train_in(tmp_path / "own", config)
    (images,) = settled
    np.testing.assert_array_equal(images, make_splits().train.images)
    # A mean of different unit vectors is shorter than they are.
    lengths = np.linalg.norm(trained.run.load_network().quantizer.codebooks, axis=-1)
    assert lengths.min() < 0.99
    assert lengths.max() < 1 + 1e-6
    frozen = dataclasses.replace(
        config, initial_run=str(trained.run.folder), freeze_codebooks=True, epochs=1
    )
    assert_bit_equal(
        train_in(tmp_path / "frozen", frozen).network.quantizer.weights,
        trained.network.quantizer.weights,
    )
    train_in(tmp_path / "unit")
    assert len(settled) == 1


def test_without_epochs_codewords_of_their_own_length_are_the_centres(tmp_path: Path) -> None:
    """That is product quantization as it is without a network: no codeword is normalised."""
    config = dataclasses.replace(CONFIG, unit_codewords=False, epochs=0)
    network = train_in(tmp_path, config).network
    images = make_splits().train.images
    quantizer = network.quantizer
    subvectors = np.array(quantizer.normalize(network.embed(images))).reshape(len(images), 4, -1)
    codes = np.array(quantizer.encode(network.embed(images)))
    for m, k in {(m, k) for code in codes for m, k in enumerate(code)}:
        centre = subvectors[codes[:, m] == k, m].mean(axis=0)
        np.testing.assert_allclose(quantizer.codebooks[m, k], centre, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*level 1 of 2 has collapsed")
def test_levels_of_reconstructions_are_settled_once_training_has_ended(tmp_path: Path) -> None:
    levels = {"model": "rpqn", "num_levels": 2, "num_subspaces": 2}
    config = dataclasses.replace(CONFIG, residuals="reconstructions", **levels)
    network = train_in(tmp_path, config).network
    images = make_splits().train.images
    embeddings = np.array(network.embed(images))
    soft = np.array(network.quantizer(embeddings, training=True))
    errors = [
        np.square(soft - np.array(quantizer(embeddings))).sum()
        for quantizer in (network.quantizer.prefix(1), network.quantizer)
    ]
    # Sixteen centres for some sixty residuals.
    assert errors[1] < 0.5 * errors[0]
