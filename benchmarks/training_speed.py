"""Training images a second: backends, TensorFlow's oneDNN kernels, XLA, precision, calls of many
steps.

    python benchmarks/training_speed.py --docs

Each case trains the network of the recipes by `network.fit` in a process of its own, on random
images in memory; the cases take turns, and a ratio compares what ran in the same round. Writes
benchmarks/results/training_speed.json, and with `--docs` docs/training_speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "training_speed.json"
BATCH_SIZE = 128
# A few seconds' worth.
STEPS = {"conv3": 60, "resnet9": 20}
BASELINE = "tensorflow"
# Name -> Keras backend, whether oneDNN is on, precision of the backbone, arguments of `compile`.
CASES: dict[str, tuple[str, bool, str, dict[str, Any]]] = {
    BASELINE: ("tensorflow", False, "float32", {"jit_compile": False}),
    "tensorflow, oneDNN": ("tensorflow", True, "float32", {"jit_compile": False}),
    "tensorflow, oneDNN, 10 steps a call": (
        "tensorflow",
        True,
        "float32",
        {"jit_compile": False, "steps_per_execution": 10},
    ),
    "tensorflow, oneDNN, mixed_bfloat16": (
        "tensorflow",
        True,
        "mixed_bfloat16",
        {"jit_compile": False},
    ),
    "tensorflow, XLA": ("tensorflow", False, "float32", {"jit_compile": True}),
    "jax": ("jax", False, "float32", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs too")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    load = os.getloadavg()[0]
    rows = [row for backbone in STEPS for row in compare(backbone, arguments.rounds)]
    content = {
        "command": f"python benchmarks/training_speed.py --rounds {arguments.rounds}",
        "batch_size": BATCH_SIZE,
        "cores": os.cpu_count(),
        "load_before": load,
        "rows": rows,
    }
    OUTPUT.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.docs:
        write_docs(content)


def compare(backbone: str, rounds: int) -> list[dict[str, Any]]:
    """Images a second of each case, and the median over the rounds of its ratio to the first."""
    speeds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name in CASES:
            speeds[name].append(measure_apart(backbone, name))
            print(backbone, name, f"{speeds[name][-1]:.0f}", flush=True)
    baseline = np.array(speeds[BASELINE])
    return [
        {
            "backbone": backbone,
            "case": name,
            "images_per_second": float(np.median(taken)),
            "ratio": float(np.median(np.array(taken) / baseline)),
        }
        for name, taken in speeds.items()
    ]


def measure_apart(backbone: str, name: str) -> float:
    """Measure a case in its own process: backend and kernels are chosen when one starts."""
    backend, has_onednn, _, _ = CASES[name]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_ENABLE_ONEDNN_OPTS": str(int(has_onednn)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, __file__, "--measure", backbone, name]
    finished = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(finished.stdout.splitlines()[-1]))


def measure(backbone: str, name: str) -> float:
    """Images a second in this process."""
    from tfpqn.losses import AsymmetricTripletLoss
    from tfpqn.training import RunConfig

    _, _, precision, options = CASES[name]
    steps = STEPS[backbone]
    config = RunConfig(
        protocol="cifar10-full",
        backbone=backbone,
        precision=precision,
        optimizer="sgd",
        classification_weight=1.0,
    )
    network = config.build_network((32, 32, 3), steps, num_classes=10)
    network.compile(network.optimizer, AsymmetricTripletLoss("softplus", 2.0), **options)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    # Traces and warms up.
    first = slice(20 * BATCH_SIZE)
    network.fit(images[first], labels[first], batch_size=BATCH_SIZE, verbose=0)
    started = time.perf_counter()
    network.fit(images, labels, batch_size=BATCH_SIZE, verbose=0)
    return len(images) / (time.perf_counter() - started)


def write_docs(content: dict[str, Any]) -> None:
    lines = [
        "# Speed of training",
        "",
        "Made by `python benchmarks/training_speed.py --docs` from",
        "[benchmarks/results/training_speed.json](../benchmarks/results/training_speed.json).",
        "",
        "| backbone | backend and settings | images/s | ratio |",
        "|---|---|---:|---:|",
        *(
            f"| {row['backbone']} | {row['case']} | {row['images_per_second']:,.0f} "
            f"| {row['ratio']:.2f} |"
            for row in content["rows"]
        ),
        "",
        f"PQN of 24 bits, triplet loss and classifier, SGD, batches of {content['batch_size']} "
        "images of 32 x 32 pixels from memory, by `network.fit`; without reading and augmenting "
        f"images. {content['cores']} cores, load {content['load_before']:.1f} before the run. No "
        "GPU was to be had.",
        "",
    ]
    (ROOT / "docs" / "training_speed.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
