"""Laws of several replicas: together they train as one would on the same batches."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tfpqn
from tests.training.tiny import arrays_of, make_images, make_network, make_splits
from tfpqn.training import Run, RunConfig
from tfpqn.training.loops.strategies import open_strategy, read_other_workers
from tfpqn.training.runs.workers import require_same_settings

ROOT = Path(tfpqn.__file__).parent.parent
# On two devices of one process: laws that name a largest difference.
EXACT = ("stream", "resumed by two", "file")
STEPS = ("step softplus", "step sum", "step classifier")

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="workers are TensorFlow's"
)


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory):
    command = [sys.executable, "-m", "tests.training.two_replicas", tmp_path_factory.mktemp("two")]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600)
    return json.loads(output.stdout)


@pytest.mark.slow
def test_two_devices_have_the_loss_and_the_gradients_of_one(two_replicas):
    assert all(two_replicas[name] < 1e-5 for name in STEPS), two_replicas


@pytest.mark.slow
def test_two_devices_train_as_one_by_keras_and_by_the_loop(two_replicas):
    assert two_replicas["fit"] < 1e-4
    assert two_replicas["loop"] < 1e-4


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_devices(two_replicas):
    assert two_replicas["resumed by one"] < 1e-4
    assert all(two_replicas[name] == 0.0 for name in EXACT), two_replicas


@pytest.mark.slow
def test_a_network_of_two_devices_answers_once_and_leaves_a_file_for_all_backends(two_replicas):
    assert two_replicas["predicted"] == len(make_images())
    assert not any(two_replicas["synchronized"])


@pytest.mark.slow
def test_batches_that_cannot_be_shared_are_refused_by_the_loop_and_weigh_less_by_keras(
    two_replicas,
):
    assert "must be able to share each batch equally" in two_replicas["refusal"]
    assert two_replicas["finite"]


def test_fit_of_keras_refuses_several_processes_and_names_the_loop(monkeypatch):
    network = make_network()
    strategy = SimpleNamespace(
        num_replicas_in_sync=4, extended=SimpleNamespace(worker_devices=("GPU:0", "GPU:1"))
    )
    monkeypatch.setattr(type(network), "distribute_strategy", strategy)
    with pytest.raises(ValueError, match=r"tfpqn\.training\.fit trains on several workers"):
        network.fit(make_images().images, make_images().labels)


def make_config(workers=("10.0.0.1:2222", "10.0.0.2:2222"), **task):
    task = {"type": "worker", "index": 1, **task}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{bad",
        "[]",
        "{}",
        '{"cluster": {"worker": ["10.0.0.1:2222"]}}',
        *map(make_config, ([], "10.0.0.1:2222", ["10.0.0.1", "10.0.0.2"], [1, 2], ["a:b", "a:c"])),
        *(make_config(index=index) for index in (2, -1, "zero", None, True)),
        make_config(type="chief"),
    ],
)
@needs_tensorflow
def test_a_cluster_that_is_missing_or_wrong_is_refused_by_the_name_of_its_variable(
    monkeypatch, config
):
    monkeypatch.setenv("TF_CONFIG", config)
    expected = rf"needs TF_CONFIG.*Received: {re.escape(config) or 'none'}$"
    with pytest.raises(ValueError, match=expected):
        open_strategy("workers", print)


def test_a_worker_knows_the_others():
    assert read_other_workers(make_config()) == ["10.0.0.1:2222"]
    assert read_other_workers(make_config(["[::1]:80", "a.b:80"], index=0)) == ["a.b:80"]
    assert open_strategy(None, print) is None


@needs_tensorflow
def test_who_waits_for_workers_says_so_and_can_be_stopped_then_and_later(monkeypatch):
    import tensorflow as tf

    def wait():
        assert lines == ["Waiting for the other workers of TF_CONFIG: 10.0.0.1:2222"]
        assert {signal.getsignal(each) for each in stops} == {signal.SIG_DFL}
        # As TensorFlow does.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    stops, lines = (signal.SIGINT, signal.SIGTERM), []
    former = [signal.getsignal(each) for each in stops]
    monkeypatch.setenv("TF_CONFIG", make_config())
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", wait)
    open_strategy("workers", lines.append)
    assert len(lines) == 1 and [signal.getsignal(each) for each in stops] == former


@needs_tensorflow
def test_workers_with_other_items_are_refused(monkeypatch):
    import tensorflow as tf

    from tfpqn.training.loops.replicas import Replicas

    lines, strategy = [], tf.distribute.get_strategy()
    monkeypatch.setattr(Replicas, "gather_text", lambda self, text: lines.append(text) or lines)
    for _ in range(2):
        require_same_settings(strategy, RunConfig.of(), make_splits())
    with pytest.raises(ValueError, match="same settings and.*Received: items with other ids$"):
        require_same_settings(strategy, RunConfig.of(), make_splits(48))


def test_a_process_that_does_not_write_leaves_the_folder_of_a_run_alone(tmp_path):
    run = Run.start(tmp_path / "run", RunConfig.of(), writes=False)
    with run.lock():
        run.for_items(make_images()).bind()
    assert not (tmp_path / "run").exists()


SETTINGS = "--bits 16 --num-subspaces 4 --embedding-dim 16 --batch-size 128 --epochs 2"
STEPS_OF_SETTINGS = 2 * (1437 // 128)


def free_ports(count):
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def start(folder, cluster=None, index=0, options=()):
    """`tfpqn train` on digits, in one process or as a worker."""
    command = [
        "train",
        "--run-dir",
        str(folder),
        *SETTINGS.split(),
        "--checkpoint-every",
        "3",
        *options,
    ]
    environment = dict(os.environ)
    if cluster:
        command += ["--distribute", "workers"]
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment["TF_CONFIG"] = json.dumps(config)
    return subprocess.Popen(
        [sys.executable, "-m", "tfpqn", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_workers(*folders, options=((), ())):
    """One worker for each run's folder, with options of its own."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(folders))]}
    return [start(folder, cluster, i, options[i]) for i, folder in enumerate(folders)]


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def checkpointed_step(folder):
    path = folder / "checkpoints" / "checkpoint.npz"
    return int(np.load(path)["step"]) if path.is_file() else 0


def weights_of(folder):
    network = Run.open(folder).load_network()
    return arrays_of([*network.variables, *network.optimizer.variables])


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    finish(start(folder))
    return weights_of(folder)


@pytest.mark.slow
def test_two_workers_train_digits_as_one_process_does(one_process, tmp_path):
    finish(*start_workers(tmp_path / "run", tmp_path / "run"))
    for one, two in zip(one_process, weights_of(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-4)
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["checkpoints", "logs", "network.keras", "run.json"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_workers_go_on_after_one_was_killed_within_an_epoch(one_process, tmp_path, victim):
    folder = tmp_path / "run"
    workers = start_workers(folder, folder)
    while checkpointed_step(folder) < 3 and workers[victim].poll() is None:
        time.sleep(0.002)
    workers[victim].send_signal(signal.SIGKILL)
    errors = [worker.communicate(timeout=300)[1] for worker in workers][1 - victim]
    assert workers[victim].returncode == -signal.SIGKILL
    assert workers[1 - victim].returncode == 2, errors
    assert "All workers must take part until the end" in errors.splitlines()[-1]
    assert 3 <= checkpointed_step(folder) < STEPS_OF_SETTINGS
    finish(*start_workers(folder, folder))
    for one, two in zip(one_process, weights_of(folder), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-4)


@pytest.mark.slow
def test_workers_that_see_different_folders_are_refused(tmp_path):
    finish(start(tmp_path / "first"))
    (tmp_path / "first" / "network.keras").unlink()
    workers = start_workers(tmp_path / "first", tmp_path / "second")
    for worker, (_, errors) in [(each, each.communicate(timeout=300)) for each in workers]:
        assert worker.returncode == 2
        assert "All workers must see the same checkpoint_dir" in errors


@pytest.mark.slow
def test_workers_with_other_settings_are_refused(tmp_path):
    options = [[], ["--epochs", "3", "--learning-rate", "0.01"]]
    workers = start_workers(tmp_path / "run", tmp_path / "run", options=options)
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [2, 2], errors
    expected = "same settings and training items. Received: epochs=2 here, 3 there; learning_rate"
    assert expected in errors[0]
    assert all(len(each.splitlines()) == 1 for each in errors), errors
