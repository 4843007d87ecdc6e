"""Laws of the custom loop: it trains as `network.fit` does, and says what it did."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfpqn
from tests.training.tiny import (
    BATCH_SIZE,
    IMAGE_SHAPE,
    STEPS_PER_EPOCH,
    make_batches,
    make_float_network,
    make_network,
    make_schedule,
)
from tfpqn.training import fit

EPOCHS = 3


class Recorder(keras.callbacks.Callback):
    """Writes down every call with its number and the names of its logs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append(("train begins",))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(("train ends",))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch begins", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch ends", epoch, sorted(set(logs) - {"epoch", "learning_rate"})))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch begins", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch ends", batch, sorted(logs)))


class Trained(NamedTuple):
    """What a training left."""

    network: Any
    history: list[dict[str, float]]
    calls: list[tuple]
    log_dir: Path | None


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    network, recorder, log_dir = make_network(), Recorder(), tmp_path_factory.mktemp("logs")
    history = fit(
        network,
        make_batches().dataset,
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        callbacks=[recorder],
        log_dir=log_dir,
        progress=False,
    )
    return Trained(network, history, recorder.calls, log_dir)


@pytest.fixture(scope="module")
def keras_own() -> Trained:
    network, recorder = make_network(), Recorder()
    fitted = network.fit(
        make_batches().dataset(),
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        callbacks=[recorder],
        shuffle=False,
        verbose=0,
    )
    history = [
        {name: values[epoch] for name, values in fitted.history.items()} for epoch in range(EPOCHS)
    ]
    return Trained(network, history, recorder.calls, None)


def assert_same_training(ours: Trained, keras_own: Trained, rtol: float = 1e-4) -> None:
    for mine, theirs in zip(ours.history, keras_own.history, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, rtol=rtol, err_msg=name)
    for mine, theirs in zip(ours.network.weights, keras_own.network.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol, err_msg=mine.path)


def test_first_loss_and_metrics_equal_those_of_keras() -> None:
    images, labels = next(make_batches().dataset().as_numpy_iterator())
    expected = make_network().train_on_batch(images, labels, return_dict=True)
    (history,) = fit(
        make_network(),
        lambda step: tf.data.Dataset.from_tensors((images, labels)),
        epochs=1,
        steps_per_epoch=1,
        progress=False,
    )
    assert history["loss"] > 0
    assert {name: history[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_epochs_give_the_losses_metrics_and_weights_of_keras(
    ours: Trained, keras_own: Trained
) -> None:
    assert_same_training(ours, keras_own)
    for variable in ours.network.optimizer.variables:
        assert np.isfinite(variable).all()


def test_training_lowers_the_loss_and_moves_the_codebooks(ours: Trained) -> None:
    losses = [epoch["loss"] for epoch in ours.history]
    assert losses[-1] < losses[0]
    former = make_network().quantizer.codebooks
    assert not np.array_equal(ours.network.quantizer.codebooks, former)


def test_sample_weights_count_as_in_keras(keras_own: Trained) -> None:
    def weighted(step: int) -> tf.data.Dataset:
        return make_batches().dataset(step).map(lambda x, y: (x, y, tf.cast(y + 1, tf.float32)))

    settings = {"epochs": 1, "steps_per_epoch": STEPS_PER_EPOCH}
    expected = make_network().fit(weighted(0), shuffle=False, verbose=0, **settings).history
    (history,) = fit(make_network(), weighted, progress=False, **settings)
    assert history["loss"] == pytest.approx(expected["loss"][0], rel=1e-4)
    assert history["loss"] != pytest.approx(keras_own.history[0]["loss"], rel=1e-2)


def test_mixed_precision_trains_as_in_keras() -> None:
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        networks = make_network(), make_network()
    finally:
        keras.config.set_dtype_policy(former)
    settings = {"epochs": 1, "steps_per_epoch": 2}
    fitted = networks[0].fit(make_batches().dataset(), shuffle=False, verbose=0, **settings)
    (history,) = fit(networks[1], make_batches().dataset, progress=False, **settings)
    assert isinstance(networks[1].optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["loss"] == pytest.approx(fitted.history["loss"][0], rel=1e-3)


def test_history_names_epoch_loss_metrics_learning_rate_and_time(ours: Trained) -> None:
    assert [epoch["epoch"] for epoch in ours.history] == [1, 2, 3]
    for epoch in ours.history:
        assert set(epoch) == {
            "epoch",
            "loss",
            "codebook_usage",
            "codebook_perplexity",
            "learning_rate",
            "seconds",
        }
        assert epoch["seconds"] > 0
        assert all(type(value) in (int, float) for value in epoch.values())


def test_learning_rate_of_the_schedule_is_recorded(ours: Trained) -> None:
    steps = STEPS_PER_EPOCH * np.arange(1, EPOCHS + 1)
    expected = [float(make_schedule()(step)) for step in steps]
    assert [epoch["learning_rate"] for epoch in ours.history] == pytest.approx(expected)
    assert expected == sorted(expected, reverse=True)


def test_callbacks_are_called_as_keras_calls_them(ours: Trained, keras_own: Trained) -> None:
    assert ours.calls == keras_own.calls
    assert len(ours.calls) == 2 + 2 * EPOCHS * (1 + STEPS_PER_EPOCH)


def test_scalars_can_be_read_by_tensorboard(ours: Trained) -> None:
    events = EventAccumulator(str(ours.log_dir), size_guidance={"tensors": 0})
    events.Reload()
    names = ours.history[0].keys() - {"epoch"}
    assert set(events.Tags()["tensors"]) == {f"train/{name}" for name in names}
    for name in names:
        scalars = events.Tensors(f"train/{name}")
        assert [s.step for s in scalars] == [STEPS_PER_EPOCH * e for e in (1, 2, 3)]
        values = [float(tf.make_ndarray(scalar.tensor_proto)) for scalar in scalars]
        assert values == pytest.approx([epoch[name] for epoch in ours.history])


def test_terminal_has_a_bar_with_epoch_and_loss_on_stderr_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    (history,) = fit(make_network(), make_batches().dataset, epochs=1, steps_per_epoch=2)
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
    steps = {"epochs": 2, "steps_per_epoch": 2, "callbacks": [callback]}
    history = fit(make_network(), make_batches().dataset, **steps)
    shown.append(capfd.readouterr().err)
    assert shown[0] == ""
    for line, epoch in zip(shown[1:], history, strict=True):
        assert line.startswith(f"epoch {epoch['epoch']}/2  loss {epoch['loss']:.4g}  ")
        assert line.count("\n") == 1
    fit(make_network(), make_batches().dataset, **steps, progress=False)
    assert capfd.readouterr().err == ""


def test_callback_can_end_the_training(tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    recorder = Recorder()
    history = fit(
        make_network(),
        make_batches().dataset,
        epochs=4,
        steps_per_epoch=2,
        callbacks=[Stop(), recorder],
        progress=False,
    )
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert recorder.calls[-1] == ("train ends",)


def test_network_must_be_compiled() -> None:
    network = tfpqn.models.ProductQuantizationNetwork(
        tfpqn.models.build_backbone("conv3", IMAGE_SHAPE), tfpqn.layers.ProductQuantization(4, 16)
    )
    with pytest.raises(RuntimeError, match=r"must be compiled.*network\.compile"):
        fit(network, make_batches().dataset, epochs=1, steps_per_epoch=1, progress=False)


def float_batches(first_nan: int) -> Any:
    """Batches of float images, NaN from a step on."""

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.random.stateless_normal([BATCH_SIZE, *IMAGE_SHAPE], tf.stack([step, step]))
        images = tf.where(step < first_nan, images, np.nan)
        return images, tf.range(BATCH_SIZE) % 4

    return lambda step: tf.data.Dataset.range(step, 100).map(batch)


def checkpointed_arrays(folder: Path) -> Iterator[np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder))
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype.is_floating:
            yield reader.get_tensor(name)


@pytest.mark.parametrize("checkpoint_every", [None, 1])
def test_loss_that_is_not_a_number_stops_before_it_is_checkpointed(
    tmp_path: Path, checkpoint_every: int | None
) -> None:
    with pytest.raises(ValueError, match=r"loss must stay finite. Received: nan in epoch 2"):
        fit(
            make_float_network(),
            float_batches(first_nan=4),
            epochs=3,
            steps_per_epoch=3,
            checkpoint_dir=tmp_path,
            checkpoint_every=checkpoint_every,
            progress=False,
        )
    assert all(np.isfinite(array).all() for array in checkpointed_arrays(tmp_path))
    step = tf.train.load_checkpoint(str(tmp_path)).get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")
    assert step == (4 if checkpoint_every else 3)
