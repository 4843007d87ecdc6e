"""Laws of stopping and going on: the end is the same to the last bit, wherever the stop was."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import tfpqn
from tests.training.outcomes import Outcome, assert_same_outcome, outcome_of, without_times
from tests.training.tiny import (
    STEPS_PER_EPOCH,
    assert_bit_equal,
    make_batches,
    make_images,
    make_network,
)
from tfpqn.training import ReviveCodewords, fit
from tfpqn.training.loops.training_state import TrainingState

ROOT = Path(tfpqn.__file__).parent.parent
EPOCHS = 3
STEPS = EPOCHS * STEPS_PER_EPOCH


class StopAt(keras.callbacks.Callback):
    """Interrupts after a number of steps in all, or in the callbacks of an epoch's end."""

    def __init__(self, step: int | None = None, epoch: int | None = None) -> None:
        super().__init__()
        self.step = step
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.step is not None and int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise KeyboardInterrupt


def run(
    folder: Path | None, every: int | None = None, *stops: StopAt, epochs: int = EPOCHS
) -> Outcome:
    """Trains a fresh network with all that is random: dropout, augmentation, revived codewords."""
    network = make_network(dropout=0.3)
    images = make_images().images
    history = fit(
        network,
        make_batches(augment=True).dataset,
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        checkpoint_dir=folder,
        checkpoint_every=every,
        # The stop comes first: what it prevents must be made up for.
        callbacks=[*stops, ReviveCodewords(lambda: [images])],
        progress=False,
    )
    return outcome_of(network, history)


def read_history(folder: Path) -> list[dict[str, float]]:
    return without_times(json.loads((folder / "history.json").read_text()))


def run_and_stop(folder: Path, every: int | None, stop: StopAt) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, every, stop)


@pytest.fixture(scope="module")
def uninterrupted() -> Outcome:
    """Without checkpoints, which must not change anything either."""
    outcome = run(None)
    assert sum(epoch["codewords_revived"] for epoch in outcome.history) > 0
    return outcome


@pytest.mark.parametrize(
    ("every", "stop"),
    [
        pytest.param(3, StopAt(step=1), id="before the first checkpoint", marks=pytest.mark.slow),
        pytest.param(3, StopAt(step=7), id="within an epoch"),
        pytest.param(
            None,
            StopAt(step=6),
            id="within an epoch, checkpoints at epochs' ends",
            marks=pytest.mark.slow,
        ),
        pytest.param(1, StopAt(step=9), id="in an epoch's first step", marks=pytest.mark.slow),
        pytest.param(2, StopAt(epoch=1), id="at an epoch's end, before its callbacks"),
        pytest.param(
            4,
            StopAt(epoch=EPOCHS - 1),
            id="at the end, before its callbacks",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stopped_training_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, uninterrupted: Outcome, every: int | None, stop: StopAt
) -> None:
    run_and_stop(tmp_path, every, stop)
    assert_same_outcome(run(tmp_path, every), uninterrupted)


def test_training_may_be_stopped_again_and_again(tmp_path: Path, uninterrupted: Outcome) -> None:
    for step in (3, 6, 11):
        run_and_stop(tmp_path, 2, StopAt(step=step))
    assert_same_outcome(run(tmp_path, 2), uninterrupted)
    assert read_history(tmp_path) == uninterrupted.history
    # What has ended is loaded, and no step is added.
    assert_same_outcome(run(tmp_path, 2), uninterrupted)


def test_training_may_be_prolonged(tmp_path: Path, uninterrupted: Outcome) -> None:
    assert run(tmp_path, epochs=1).history == uninterrupted.history[:1]
    assert_same_outcome(run(tmp_path), uninterrupted)


def test_no_checkpoint_is_written_over_and_the_last_two_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    save = TrainingState.save

    def record(state: TrainingState, step: int) -> None:
        steps.append(step)
        save(state, step)

    monkeypatch.setattr(TrainingState, "save", record)
    run(tmp_path, 2)
    # Written over, the checkpoint in force would for an instant be half the old and half the new.
    assert steps == sorted(set(steps))
    assert steps == [2, 4, 6, 8, 10, 12]
    names = {file.name for file in tmp_path.glob("ckpt-*.index")}
    assert names == {"ckpt-10.index", "ckpt-12.index"}


def test_checkpoint_that_was_not_finished_is_passed_over(
    tmp_path: Path, uninterrupted: Outcome
) -> None:
    run_and_stop(tmp_path, 3, StopAt(step=7))
    (tmp_path / "ckpt-9.data-00000-of-00001").write_bytes(b"half a checkpoint")
    assert_same_outcome(run(tmp_path, 3), uninterrupted)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    fit_one_step(make_network(), folder)
    return folder


def fit_one_step(network: Any, folder: Path) -> None:
    fit(
        network,
        make_batches().dataset,
        epochs=1,
        steps_per_epoch=1,
        checkpoint_dir=folder,
        progress=False,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"num_codewords": 8},
        {"embedding_dim": 32},
        {"num_subspaces": 2},
        {"dropout": 0.3},
        {"optimizer": "sgd"},
    ],
    ids=str,
)
def test_checkpoint_of_another_network_or_optimizer_is_refused(
    checkpoint: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="must be of this network and optimizer") as caught:
        fit_one_step(make_network(**settings), checkpoint)
    assert str(checkpoint) in str(caught.value)


def test_checkpoint_that_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    fit_one_step(make_network(), tmp_path)
    (data,) = tmp_path.glob("ckpt-1.data*")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match="checkpoint in") as caught:
        fit_one_step(make_network(), tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0garbage"])
def test_training_does_not_begin_anew_where_the_last_checkpoint_cannot_be_told(
    tmp_path: Path, content: bytes
) -> None:
    fit_one_step(make_network(), tmp_path)
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match="must name the last checkpoint") as caught:
        fit_one_step(make_network(), tmp_path)
    assert str(tmp_path / "checkpoint") in str(caught.value)


def test_checkpoint_of_the_loop_of_other_backends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"what another backend writes")
    with pytest.raises(ValueError, match="must go on with the backend that it was begun with"):
        fit_one_step(make_network(), tmp_path)


SCRIPT = """
    import sys

    from tfpqn.datasets import load_protocol
    from tfpqn.training import Run, RunConfig, train

    config = RunConfig(
        bits=16, embedding_dim=16, epochs=6, batch_size=64, augment=True, seed=11
    )
    splits = load_protocol("digits").load(None)
    train(Run.start(sys.argv[1], config), splits, checkpoint_every=5, progress=False)
"""
STEPS_OF_SCRIPT = 6 * (1437 // 64)


def start_training(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def checkpointed_step(folder: Path) -> int:
    """Step of the last checkpoint, read from the file that names it; 0 before the first."""
    state = tf.train.get_checkpoint_state(str(folder / "checkpoints"))
    return int(state.model_checkpoint_path.rpartition("-")[2]) if state else 0


def kill_after_step(process: subprocess.Popen, folder: Path, step: int, seconds: float) -> None:
    while checkpointed_step(folder) < step and process.poll() is None:
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_killed_training_started_again_ends_with_the_same_weights(tmp_path: Path) -> None:
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
    assert {path.name for path in killed.iterdir()} == {
        "machine.json",
        "run.json",
        "checkpoints",
        "logs",
        "network.keras",
    }
