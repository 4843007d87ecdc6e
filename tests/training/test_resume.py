"""Laws of stopping and going on: the end is the same to the last bit, wherever the stop was."""

import functools
import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import tfpqn
from tests.training.tiny import (
    STEPS_PER_EPOCH,
    arrays_of,
    assert_bit_equal,
    make_batches,
    make_images,
    make_network,
)
from tfpqn.training import ReviveCodewords
from tfpqn.training.loops.checkpoint import Schedule
from tfpqn.training.loops.keras_loop import train_by_epochs
from tfpqn.training.loops.tensorflow_loop import train_by_steps

ROOT = Path(tfpqn.__file__).parent.parent
EPOCHS = 3
# Loop -> function and the form of batches that it takes.
LOOPS = {
    "tensorflow": (train_by_steps, "dataset"),
    "keras": (train_by_epochs, "arrays"),
}


class Outcome(NamedTuple):
    """All that must be the same in the end."""

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    history: list[dict[str, float]]


def outcome_of(network, history):
    optimizer = network.optimizer.variables
    return Outcome(arrays_of(network.variables), arrays_of(optimizer), without_times(history))


def without_times(history):
    return [{name: epoch[name] for name in epoch if name != "seconds"} for epoch in history]


def assert_same_outcome(first, second):
    assert first.history == second.history
    assert_bit_equal(first.weights, second.weights)
    assert_bit_equal(first.optimizer, second.optimizer)


class StopAt(keras.callbacks.Callback):
    """Interrupts after a number of steps in all, or in the callbacks of an epoch's end."""

    def __init__(self, step=None, epoch=None):
        super().__init__()
        self.step = step
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.step is not None and int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def run(loop, folder, every=None, stop=None):
    """Trains a fresh network with all that is random: dropout, augmentation, revived codewords."""
    train, form = LOOPS[loop]
    network = make_network(dropout=0.3)
    images = make_images().images
    revive = ReviveCodewords(lambda: [images])
    history = train(
        network,
        getattr(make_batches(augment=True), form),
        Schedule(
            EPOCHS,
            STEPS_PER_EPOCH,
            folder,
            every,
            # The stop comes first: what it prevents must be made up for.
            callbacks=[stop, revive] if stop else [revive],
            progress=False,
        ),
    )
    return outcome_of(network, history)


def read_history(folder):
    return without_times(json.loads((folder / "history.json").read_text()))


@pytest.fixture(scope="module")
def uninterrupted():
    """By loop, without checkpoints, which must not change anything either."""

    @functools.cache
    def train(loop):
        outcome = run(loop, None)
        assert sum(epoch["codewords_revived"] for epoch in outcome.history) > 0
        return outcome

    return train


@pytest.mark.parametrize(
    ("loop", "every", "stops"),
    [
        pytest.param("tensorflow", 2, [3, 10], id="again and again, within an epoch"),
        pytest.param("tensorflow", 3, [1, 9], id="first steps", marks=pytest.mark.slow),
        pytest.param(
            "tensorflow",
            2,
            [StopAt(epoch=1)],
            id="before an epoch's callbacks",
            marks=pytest.mark.slow,
        ),
        pytest.param("keras", None, [6, StopAt(epoch=1)], id="keras", marks=pytest.mark.slow),
    ],
)
def test_stopped_training_goes_on_as_if_it_had_not_been_stopped(
    tmp_path, uninterrupted, loop, every, stops
):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(loop, tmp_path, every, StopAt(step=stop) if isinstance(stop, int) else stop)
    # The second time what has ended is loaded, and no step is added.
    for _ in range(2):
        assert_same_outcome(run(loop, tmp_path, every), uninterrupted(loop))
    assert read_history(tmp_path) == uninterrupted(loop).history


def train_one_step(network, folder, loop="tensorflow"):
    train, form = LOOPS[loop]
    batches = getattr(make_batches(), form)
    train(network, batches, Schedule(1, 1, folder, progress=False))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    train_one_step(make_network(), folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [{"num_codewords": 8}, {"embedding_dim": 32}, {"dropout": 0.3}, {"optimizer": "sgd"}],
    ids=str,
)
def test_checkpoint_of_another_network_or_optimizer_is_refused(checkpoint, settings):
    with pytest.raises(ValueError, match="must be of this network and optimizer") as caught:
        train_one_step(make_network(**settings), checkpoint)
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_checkpoint_that_is_damaged_is_called_so(checkpoint, tmp_path, damage):
    data = bytearray((checkpoint / "checkpoint.npz").read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    data = {"cut": data[:1000], "flipped": data, "empty": b""}[damage]
    (tmp_path / "checkpoint.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint\.npz' must be whole.*a damaged file"):
        train_one_step(make_network(), tmp_path)


def test_checkpoint_of_another_backend_is_refused(checkpoint, tmp_path):
    with np.load(checkpoint / "checkpoint.npz") as file:
        np.savez(tmp_path / "checkpoint.npz", **{**file, "backend": np.array("jax")})
    with pytest.raises(ValueError, match="'tensorflow', and a checkpoint of 'jax'"):
        train_one_step(make_network(), tmp_path)


SCRIPT = """
    import sys

    from tfpqn.datasets import load_protocol
    from tfpqn.training import Run, RunConfig, train

    sizes = {"bits": 16, "num_subspaces": 4, "embedding_dim": 16}
    config = RunConfig.of(**sizes, epochs=6, batch_size=64, seed=11)
    splits = load_protocol("digits").load(None)
    train(Run.start(sys.argv[1], config), splits, checkpoint_every=5, progress=False)
"""
STEPS_OF_SCRIPT = 6 * (1437 // 64)


def start_training(folder):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def checkpointed_step(folder):
    """Step of the checkpoint; 0 before the first."""
    path = folder / "checkpoints" / "checkpoint.npz"
    return int(np.load(path)["step"]) if path.is_file() else 0


def kill_after_step(process, folder, step, seconds):
    while checkpointed_step(folder) < step and process.poll() is None:
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_killed_training_started_again_ends_with_the_same_weights(tmp_path):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    reference = start_training(uninterrupted)
    # Two random moments, the second after the first, both well before the end. They differ from
    # run to run, whatever the seed of the other tests.
    moments = random.SystemRandom()
    for low, high in ((1, 50), (55, 90)):
        step, seconds = moments.randint(low, high), moments.uniform(0, 0.05)
        print(f"killed {seconds:.3f} s after the checkpoint of step {step}")
        kill_after_step(start_training(killed), killed, step, seconds)
        assert not (killed / "network.keras").exists()
        assert step <= checkpointed_step(killed) < STEPS_OF_SCRIPT
    finish(start_training(killed))
    finish(reference)
    networks = [
        keras.saving.load_model(folder / "network.keras") for folder in (uninterrupted, killed)
    ]
    assert_bit_equal(*(network.variables for network in networks))
    assert_bit_equal(*(network.optimizer.variables for network in networks))
    histories = [read_history(folder / "checkpoints") for folder in (uninterrupted, killed)]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 6
    # Nothing half-written is left.
    assert not [path for path in killed.rglob("*") if "partial" in path.name]
