"""Laws of the loop by `network.fit`, on the backend in use: that of all but TensorFlow's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfpqn
from tests.training.outcomes import Outcome, assert_same_outcome, outcome_of, without_times
from tests.training.tiny import (
    BATCH_SIZE,
    IMAGE_SHAPE,
    STEPS_PER_EPOCH,
    arrays_of,
    make_batches,
    make_float_network,
    make_images,
    make_network,
    make_schedule,
)
from tfpqn.training import ReviveCodewords
from tfpqn.training.loops.keras_loop import fit

EPOCHS = 3


class StopAt(keras.callbacks.Callback):
    """Interrupts in an epoch: after one of its steps, or at its end."""

    def __init__(self, epoch: int, step: int | None = None) -> None:
        super().__init__()
        self.epoch = epoch
        self.step = step
        self.current = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.current = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.current, batch) == (self.epoch, self.step):
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise KeyboardInterrupt


def run(folder: Path | None, *stops: StopAt, epochs: int = EPOCHS) -> Outcome:
    """Trains a fresh network with all that is random: dropout, augmentation, revived codewords."""
    network = make_network(dropout=0.3)
    images = make_images().images
    history = fit(
        network,
        make_batches(augment=True).arrays,
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        checkpoint_dir=folder,
        callbacks=[*stops, ReviveCodewords(lambda: [images])],
        progress=False,
    )
    return outcome_of(network, history)


@pytest.fixture(scope="module")
def uninterrupted() -> Outcome:
    outcome = run(None)
    assert sum(epoch["codewords_revived"] for epoch in outcome.history) > 0
    return outcome


def test_each_batch_is_trained_on_once_and_in_order() -> None:
    by_steps, by_loop = make_network(), make_network()
    batches = make_batches(augment=True)
    stream = batches.arrays()
    losses = []
    for _ in range(2 * STEPS_PER_EPOCH):
        by_steps.reset_metrics()
        logs = by_steps.train_on_batch(*next(stream), return_dict=True)
        losses.append(float(logs["loss"]))
    stream.close()
    settings = {"epochs": 2, "steps_per_epoch": STEPS_PER_EPOCH, "progress": False}
    history = fit(by_loop, batches.arrays, **settings)
    expected = np.mean(np.reshape(losses, (2, STEPS_PER_EPOCH)), axis=1)
    assert [epoch["loss"] for epoch in history] == pytest.approx(expected.tolist(), rel=1e-4)
    for one, other in zip(by_steps.weights, by_loop.weights, strict=True):
        np.testing.assert_allclose(*arrays_of([one, other]), rtol=1e-3, atol=1e-4)


def test_history_names_epoch_loss_metrics_callbacks_learning_rate_and_time(
    uninterrupted: Outcome,
) -> None:
    names = {"epoch", "loss", "codebook_usage", "codebook_perplexity"}
    for number, epoch in enumerate(uninterrupted.history, start=1):
        assert set(epoch) == names | {"codewords_revived", "learning_rate"}
        assert epoch["epoch"] == number
        rate = float(make_schedule()(number * STEPS_PER_EPOCH))
        assert epoch["learning_rate"] == pytest.approx(rate)
    losses = [epoch["loss"] for epoch in uninterrupted.history]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("stop", [StopAt(0), StopAt(1, step=2)], ids=["at the end", "within"])
def test_stopped_training_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, uninterrupted: Outcome, stop: StopAt
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop)
    assert_same_outcome(run(tmp_path), uninterrupted)
    history = without_times(json.loads((tmp_path / "history.json").read_text()))
    assert history == uninterrupted.history
    # What has ended is loaded, and no step is added.
    assert_same_outcome(run(tmp_path), uninterrupted)


def float_batches(first_nan: int) -> Callable[[int], Any]:
    """Batches of float images, NaN from a step on."""

    def stream(step: int) -> Any:
        while True:
            images = np.random.default_rng(step).normal(size=(BATCH_SIZE, *IMAGE_SHAPE))
            images = np.where(step < first_nan, images, np.nan).astype(np.float32)
            yield images, np.arange(BATCH_SIZE) % 4
            step += 1

    return stream


def test_loss_that_is_not_a_number_stops_before_it_is_checkpointed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss must stay finite. Received: nan in epoch 2"):
        fit(
            make_float_network(),
            float_batches(first_nan=4),
            epochs=3,
            steps_per_epoch=3,
            checkpoint_dir=tmp_path,
            progress=False,
        )
    with np.load(tmp_path / "checkpoint.npz") as file:
        assert len(json.loads(str(file["history"]))) == 1
        for name in file.files:
            if file[name].dtype.kind == "f":
                assert np.isfinite(file[name]).all()


def test_terminal_has_a_bar_with_epoch_and_loss_on_stderr_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    (history,) = fit(make_network(), make_batches().arrays, epochs=1, steps_per_epoch=2)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert f"epoch 1/1  loss {history['loss']:.4f}" in shown.err
    assert "2/2" in shown.err


def test_file_or_pipe_gets_a_line_as_soon_as_an_epoch_ends(
    capfd: pytest.CaptureFixture[str],
) -> None:
    shown: list[str] = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: shown.append(capfd.readouterr().err)
    )
    steps = {"epochs": 2, "steps_per_epoch": 1}
    history = fit(make_network(), make_batches().arrays, callbacks=[callback], **steps)
    shown.append(capfd.readouterr().err)
    assert shown[0] == ""
    for line, epoch in zip(shown[1:], history, strict=True):
        assert line.startswith(f"epoch {epoch['epoch']}/2  loss {epoch['loss']:.4g}  ")
        assert line.count("\n") == 1


def fit_one_step(network: Any, folder: Path | None = None) -> None:
    fit(
        network,
        make_batches().arrays,
        epochs=1,
        steps_per_epoch=1,
        checkpoint_dir=folder,
        progress=False,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    fit_one_step(make_network(), folder)
    return folder


@pytest.mark.parametrize(
    "settings", [{"num_codewords": 8}, {"dropout": 0.3}, {"optimizer": "sgd"}], ids=str
)
def test_checkpoint_of_another_network_or_optimizer_is_refused(
    checkpoint: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="must be of this network and optimizer") as caught:
        fit_one_step(make_network(**settings), checkpoint)
    assert str(checkpoint) in str(caught.value)


def test_checkpoint_that_is_damaged_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    data = (checkpoint / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.npz must be an \.npz of plain arrays"):
        fit_one_step(make_network(), tmp_path)


def test_checkpoint_of_the_other_loop_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("what TensorFlow writes")
    with pytest.raises(ValueError, match="must go on with the backend that it was begun with"):
        fit_one_step(make_network(), tmp_path)


def test_network_is_built_by_its_first_batch_and_must_be_compiled() -> None:
    backbone = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)])
    quantizer = tfpqn.layers.ProductQuantization(4, 16)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, embedding_dim=16)
    with pytest.raises(RuntimeError, match=r"must be compiled.*network\.compile"):
        fit_one_step(network)
    network.compile("sgd", tfpqn.losses.AsymmetricTripletLoss())
    fit_one_step(network)
    assert network.built
