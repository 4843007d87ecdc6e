"""Laws of both loops: they train as `network.fit` does, and say what they did."""

import json
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
    compiled_network,
    make_batches,
    make_network,
    make_schedule,
)
from tfpqn.training import fit
from tfpqn.training.loops.checkpoint import Schedule
from tfpqn.training.loops.keras_loop import train_by_epochs
from tfpqn.training.loops.tensorflow_loop import train_by_steps

EPOCHS = 3
# Name -> loop, and what makes the stream that it takes of a `tf.data.Dataset`.
LOOPS = {
    "tensorflow": (train_by_steps, lambda dataset: dataset),
    "keras": (train_by_epochs, lambda dataset: dataset.as_numpy_iterator()),
}
# `make test-jax` runs the other loop's laws.
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the loop is TensorFlow's own"
)
TENSORFLOW = pytest.param("tensorflow", marks=needs_tensorflow)
each_loop = pytest.mark.parametrize("loop", [TENSORFLOW, "keras"])


def train(loop, network, dataset=None, **settings):
    """Trains by a loop on what a function from a step to a `tf.data.Dataset` gives."""
    train_network, convert = LOOPS[loop]
    dataset = dataset or make_batches().dataset
    settings = {"epochs": EPOCHS, "steps_per_epoch": STEPS_PER_EPOCH, **settings}
    schedule = Schedule(**{"progress": False, **settings})
    return train_network(network, lambda step: convert(dataset(step)), schedule)


class Recorder(keras.callbacks.Callback):
    """Writes down every call with its number and the names of its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("train begins",))

    def on_train_end(self, logs=None):
        self.calls.append(("train ends",))

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch begins", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch ends", epoch, sorted(set(logs) - {"epoch", "learning_rate"})))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("batch begins", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch ends", batch, sorted(logs)))


class Trained(NamedTuple):
    """What a training left."""

    network: Any
    history: list[dict[str, float]]
    calls: list[tuple]
    log_dir: Path | None = None


@pytest.fixture(scope="module", params=[TENSORFLOW, "keras"])
def ours(request, tmp_path_factory):
    network, recorder, log_dir = make_network(), Recorder(), tmp_path_factory.mktemp("logs")
    history = train(request.param, network, callbacks=[recorder], log_dir=log_dir)
    is_tensorflow = request.param == "tensorflow"
    return Trained(network, history, recorder.calls, log_dir if is_tensorflow else None)


@pytest.fixture(scope="module")
def keras_own():
    network, recorder = make_network(), Recorder()
    settings = {"epochs": EPOCHS, "steps_per_epoch": STEPS_PER_EPOCH, "callbacks": [recorder]}
    fitted = network.fit(make_batches().dataset(), shuffle=False, verbose=0, **settings)
    columns = fitted.history.items()
    history = [{name: values[epoch] for name, values in columns} for epoch in range(EPOCHS)]
    return Trained(network, history, recorder.calls)


def test_epochs_give_the_losses_metrics_weights_and_calls_of_keras(ours, keras_own):
    for mine, theirs in zip(ours.history, keras_own.history, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, rtol=1e-4, err_msg=name)
    for mine, theirs in zip(ours.network.weights, keras_own.network.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=mine.path)
    assert ours.calls == keras_own.calls
    assert len(ours.calls) == 2 + 2 * EPOCHS * (1 + STEPS_PER_EPOCH)


def test_history_names_epoch_loss_metrics_learning_rate_and_time(ours):
    assert [epoch["epoch"] for epoch in ours.history] == [1, 2, 3]
    names = {"epoch", "loss", "codebook_usage", "codebook_perplexity", "learning_rate", "seconds"}
    for epoch in ours.history:
        assert epoch.keys() == names
        assert epoch["seconds"] > 0
        assert all(type(value) in (int, float) for value in epoch.values())
    expected = [float(make_schedule()(STEPS_PER_EPOCH * number)) for number in (1, 2, 3)]
    assert [epoch["learning_rate"] for epoch in ours.history] == pytest.approx(expected)


def test_scalars_can_be_read_by_tensorboard(ours):
    if ours.log_dir is None:
        pytest.skip("only the loop of TensorFlow writes them")
    events = EventAccumulator(str(ours.log_dir), size_guidance={"tensors": 0})
    events.Reload()
    names = ours.history[0].keys() - {"epoch"}
    assert set(events.Tags()["tensors"]) == {f"train/{name}" for name in names}
    for name in names:
        scalars = events.Tensors(f"train/{name}")
        assert [s.step for s in scalars] == [STEPS_PER_EPOCH * e for e in (1, 2, 3)]
        values = [float(tf.make_ndarray(scalar.tensor_proto)) for scalar in scalars]
        assert values == pytest.approx([epoch[name] for epoch in ours.history])


@needs_tensorflow
def test_sample_weights_count_as_in_keras(keras_own):
    def weighted(step):
        return make_batches().dataset(step).map(lambda x, y: (x, y, tf.cast(y + 1, tf.float32)))

    settings = {"epochs": 1, "steps_per_epoch": STEPS_PER_EPOCH}
    expected = make_network().fit(weighted(0), shuffle=False, verbose=0, **settings).history
    (history,) = train("tensorflow", make_network(), weighted, **settings)
    assert history["loss"] == pytest.approx(expected["loss"][0], rel=1e-4)
    assert history["loss"] != pytest.approx(keras_own.history[0]["loss"], rel=1e-2)


@pytest.mark.slow
def test_mixed_precision_trains_as_in_keras():
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        networks = make_network(), make_network()
    finally:
        keras.config.set_dtype_policy(former)
    settings = {"epochs": 1, "steps_per_epoch": 2}
    fitted = networks[0].fit(make_batches().dataset(), shuffle=False, verbose=0, **settings)
    (history,) = train("tensorflow", networks[1], **settings)
    assert isinstance(networks[1].optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["loss"] == pytest.approx(fitted.history["loss"][0], rel=1e-3)


@each_loop
def test_terminal_has_a_bar_with_epoch_and_loss_on_stderr_alone(loop, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    (history,) = train(loop, make_network(), epochs=1, steps_per_epoch=2, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert f"epoch 1/1  loss {history['loss']:.4f}" in shown.err
    assert "2/2" in shown.err


@each_loop
def test_file_or_pipe_gets_a_line_as_soon_as_an_epoch_ends(loop, capfd):
    shown = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: shown.append(capfd.readouterr().err)
    )
    settings = {"epochs": 2, "steps_per_epoch": 1, "callbacks": [callback], "progress": True}
    history = train(loop, make_network(), **settings)
    shown.append(capfd.readouterr().err)
    assert shown[0] == ""
    for line, epoch in zip(shown[1:], history, strict=True):
        assert line.startswith(f"epoch {epoch['epoch']}/2  loss {epoch['loss']:.4g}  ")
        assert line.count("\n") == 1


@needs_tensorflow
def test_callback_can_add_to_the_history_and_end_the_training(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["found"] = np.float32(0.5)
            self.model.stop_training = epoch == 1

    recorder = Recorder()
    callbacks = [Stop(), recorder]
    settings = {"epochs": 4, "steps_per_epoch": 1, "callbacks": callbacks}
    history = train("tensorflow", make_network(), checkpoint_dir=tmp_path, **settings)
    assert [(epoch["epoch"], epoch["found"]) for epoch in history] == [(1, 0.5), (2, 0.5)]
    assert json.loads((tmp_path / "history.json").read_text()) == history
    assert recorder.calls[-1] == ("train ends",)


@each_loop
def test_network_is_built_by_its_first_batch_and_must_be_compiled(loop):
    backbone = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)])
    quantizer = tfpqn.layers.ProductQuantization(4, 16)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, embedding_dim=16)
    with pytest.raises(RuntimeError, match=r"must be compiled.*network\.compile"):
        fit(network, make_batches().dataset, epochs=1, steps_per_epoch=1)
    network.compile("sgd", tfpqn.losses.AsymmetricTripletLoss())
    train(loop, network, epochs=1, steps_per_epoch=1)
    assert network.built


def float_batches(first_nan):
    """Batches of float images, NaN from a step on."""

    def batch(step):
        images = tf.random.stateless_normal([BATCH_SIZE, *IMAGE_SHAPE], tf.stack([step, step]))
        images = tf.where(step < first_nan, images, np.nan)
        return images, tf.range(BATCH_SIZE) % 4

    return lambda step: tf.data.Dataset.range(step, 100).map(batch)


@pytest.mark.parametrize(
    ("loop", "every", "last"),
    [
        pytest.param("tensorflow", None, 3, marks=needs_tensorflow),
        pytest.param("tensorflow", 1, 4, marks=needs_tensorflow),
        ("keras", None, 3),
    ],
)
def test_loss_that_is_not_a_number_stops_before_it_is_checkpointed(loop, every, last, tmp_path):
    settings = {"epochs": 3, "steps_per_epoch": 3, "checkpoint_every": every}
    backbone = keras.Sequential([keras.Input(IMAGE_SHAPE), keras.layers.Flatten()])
    network, batches = compiled_network(backbone), float_batches(first_nan=4)
    with pytest.raises(ValueError, match=r"loss must stay finite. Received: nan in epoch 2"):
        train(loop, network, batches, checkpoint_dir=tmp_path, **settings)
    with np.load(tmp_path / "checkpoint.npz") as file:
        assert file["step"] == last
        assert len(json.loads(str(file["history"]))) == 1
        assert all(np.isfinite(file[n]).all() for n in file.files if file[n].dtype.kind == "f")
