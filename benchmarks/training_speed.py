"""Training images a second: backends, TensorFlow's oneDNN kernels, XLA, half precision, calls of
many steps.

    python benchmarks/training_speed.py
    python -m research --report

Each case trains a network by `network.fit` in a process of its own, on random images in memory:
those of the recipes, and the pretrained backbone that photos have, the last half of whose layers
learns. The cases take turns, and a ratio compares what ran in the same round. A case whose backend
is not installed is left out. Writes this machine's figures into
docs/results/training-speed.json, beside those of others; the second command makes the table.
On an accelerator, start it with the backend that uses it: KERAS_BACKEND=jax.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "results" / "training-speed.json"
PHOTOS = "efficientnet_lite0, half of its layers"
# Name -> backbone, side of its images in pixels, images a step.
NETWORKS = {
    "conv3": ("conv3", 32, 128),
    "resnet9": ("resnet9", 32, 128),
    PHOTOS: ("efficientnet_lite0", 224, 64),
}
# What training was before the package had a batch normalization of its own.
KERAS_NORMALIZATION = "tensorflow, oneDNN, batch normalization of Keras"
# Of photos the other cases would take minutes each.
PHOTO_CASES = ("tensorflow", "tensorflow, oneDNN", KERAS_NORMALIZATION, "torch")
# What a case is timed for, and at most so many steps.
SECONDS = 8.0
MOST_STEPS = 100
EAGER: dict[str, Any] = {"jit_compile": False}
# Name -> Keras backend, whether oneDNN is on, precision of the backbone, arguments of `compile`.
CASES: dict[str, tuple[str, bool, str, dict[str, Any]]] = {
    "tensorflow": ("tensorflow", False, "float32", EAGER),
    "tensorflow, oneDNN": ("tensorflow", True, "float32", EAGER),
    KERAS_NORMALIZATION: ("tensorflow", True, "float32", EAGER),
    "tensorflow, oneDNN, 10 steps a call": (
        "tensorflow",
        True,
        "float32",
        {**EAGER, "steps_per_execution": 10},
    ),
    "tensorflow, oneDNN, mixed_bfloat16": ("tensorflow", True, "mixed_bfloat16", EAGER),
    "tensorflow, XLA": ("tensorflow", False, "float32", {"jit_compile": True}),
    "jax": ("jax", False, "float32", {}),
    "jax, mixed_bfloat16": ("jax", False, "mixed_bfloat16", {}),
    "torch": ("torch", False, "float32", {}),
    "torch, mixed_bfloat16": ("torch", False, "mixed_bfloat16", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    # Not installed: it lies in the checkout.
    sys.path.append(str(ROOT))
    from research.machine import describe_machine

    load = os.getloadavg()[0]
    machine = {name: value for name, value in describe_machine().items() if name != "backend"}
    rows = [row for network in NETWORKS for row in compare(network, arguments.rounds)]
    kept = json.loads(OUTPUT.read_text())["machines"] if OUTPUT.is_file() else []
    others = [other for other in kept if other["hardware"] != machine["hardware"]]
    content = {
        "machines": [
            *others,
            {
                "command": f"python benchmarks/training_speed.py --rounds {arguments.rounds}",
                **machine,
                "load_before": load,
                "rows": rows,
            },
        ],
    }
    OUTPUT.write_text(json.dumps(content, indent=1) + "\n")


def compare(network: str, rounds: int) -> list[dict[str, Any]]:
    """Images a second of each case, and the median over the rounds of its ratio to the first."""
    wanted = PHOTO_CASES if network == PHOTOS else tuple(CASES)
    names = [name for name in wanted if importlib.util.find_spec(CASES[name][0])]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            speeds[name].append(measure_apart(network, name))
            print(network, name, f"{speeds[name][-1]:.0f}", flush=True)
    baseline = np.array(speeds[names[0]])
    return [
        {
            "network": network,
            "case": name,
            "images_per_second": float(np.median(taken)),
            "ratio": float(np.median(np.array(taken) / baseline)),
        }
        for name, taken in speeds.items()
    ]


def measure_apart(network: str, name: str) -> float:
    """Measure a case in its own process: backend and kernels are chosen when one starts."""
    backend, has_onednn, _, _ = CASES[name]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_ENABLE_ONEDNN_OPTS": str(int(has_onednn)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, __file__, "--measure", network, name]
    finished = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(finished.stdout.splitlines()[-1]))


def measure(network_name: str, name: str) -> float:
    """Images a second in this process."""
    from tfpqn.layers.batch_normalization import BatchNormalization
    from tfpqn.losses import AsymmetricTripletLoss
    from tfpqn.models.trainable_layers import freeze_first_layers
    from tfpqn.training import RunConfig

    if name == KERAS_NORMALIZATION:
        BatchNormalization.call = keras.layers.BatchNormalization.call
    _, _, precision, options = CASES[name]
    backbone, side, batch_size = NETWORKS[network_name]
    config = RunConfig.of(
        protocol="cifar10-full",
        backbone=backbone,
        precision=precision,
        optimizer="sgd",
        classification_weight=1.0,
    )
    network = config.build_network((side, side, 3), MOST_STEPS, num_classes=10)
    if network_name == PHOTOS:
        freeze_first_layers(network.backbone, 0.5)
    network.compile(network.optimizer, AsymmetricTripletLoss("softplus", 2.0), **options)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (MOST_STEPS * batch_size, side, side, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    clock = StepClock()

    def fit(steps: int) -> float:
        """Steps a second, from the end of the first call to the end of the last."""
        used = slice(steps * batch_size)
        network.fit(images[used], labels[used], batch_size=batch_size, verbose=0, callbacks=[clock])
        calls = len(clock.ends) - 1
        return calls * unit / (clock.ends[-1] - clock.ends[0])

    unit = options.get("steps_per_execution", 1)
    # The first traces and warms up; the second says how many steps to take.
    fit(2 * unit)
    calls = round(SECONDS * fit(3 * unit) / unit)
    return batch_size * fit(unit * min(max(calls, 3), MOST_STEPS // unit))


class StepClock(keras.callbacks.Callback):
    """When each call of the training function ended: beginnings of `fit` do not count."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ends.append(time.perf_counter())


if __name__ == "__main__":
    main()
