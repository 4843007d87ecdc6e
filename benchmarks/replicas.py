"""How far two workers on this machine end from one process.

    python benchmarks/replicas.py

Each case trains the default network on digits in one process, and as two workers that share each
batch over loopback. Writes benchmarks/results/replicas.json.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_machine

from tfpqn.training import Run

OUTPUT = Path(__file__).parent / "results" / "replicas.json"
CASES = {
    "adam, rate 0.001, 2 epochs": ["--epochs", "2"],
    "adam, rate 0.001, 4 epochs": ["--epochs", "4"],
    "sgd, rate 0.01, 4 epochs": ["--epochs", "4", "--optimizer", "sgd", "--learning-rate", "0.01"],
}


def main() -> None:
    machine = describe_machine(["tensorflow", "keras"])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for number, (name, options) in enumerate(CASES.items()):
            # The third has one process with other kernels: what rounding alone does.
            folders = [Path(place) / f"{number}-{case}" for case in ("one", "two", "other")]
            finish(start(folders[0], options))
            workers = describe_cluster(2)
            finish(*(start(folders[1], options, TF_CONFIG=config) for config in workers))
            finish(start(folders[2], options, TF_ENABLE_ONEDNN_OPTS="0"))
            rows.append({"case": name, **compare(*map(Run.open, folders))})
            print(rows[-1])
    OUTPUT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def start(folder: Path, options: list[str], **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tfpqn", "train", "--run-dir", str(folder), *options]
    command += ["--bits", "16", "--embedding-dim", "16", "--batch-size", "128"]
    if "TF_CONFIG" in environment:
        command += ["--distribute", "workers"]
    return subprocess.Popen(command, env={**os.environ, **environment})


def describe_cluster(count: int) -> list[str]:
    """TF_CONFIG of each worker, on free ports of this machine."""
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    addresses = ["{}:{}".format(*holder.getsockname()) for holder in holders]
    for holder in holders:
        holder.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]


def finish(*processes: subprocess.Popen[bytes]) -> None:
    if any([process.wait() for process in processes]):
        sys.exit("a training failed")


def compare(one: Run, two: Run, other: Run) -> dict[str, Any]:
    """Largest differences from one process."""
    losses = [run.read_history()[-1]["loss"] for run in (one, two)]
    weights = [run.load_network().get_weights() for run in (one, two, other)]
    return {
        "loss": losses[0],
        "loss_difference": abs(losses[1] - losses[0]),
        "weights_difference": largest_difference(weights[0], weights[1]),
        "weights_difference_of_other_kernels": largest_difference(weights[0], weights[2]),
    }


def largest_difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    return float(max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)))


if __name__ == "__main__":
    main()
