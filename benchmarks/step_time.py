"""What quantizing costs in training: a step with each quantizer against one with a dense head.

    python benchmarks/step_time.py --docs

The same backbone and batch, in turns in one process; the plain head is an embedding of the same
length and a softmax over the classes. Writes benchmarks/results/step_time.json, and with `--docs`
docs/step_time.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork, build_backbone

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "step_time.json"
IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
EMBEDDING_DIM = 512
NUM_FRAMES = 8
BATCH_SIZE = 128

Quantizers = dict[str, Callable[[], Any]]
IMAGE_QUANTIZERS: Quantizers = {
    "product, 4 x 64": lambda: ProductQuantization(4, 64),
    "product, 4 x 4096": lambda: ProductQuantization(4, 4096),
    "residual, 2 levels x 2 x 64": lambda: ResidualProductQuantization(2, 2, 64),
    "residual, 4 levels x 1 x 64": lambda: ResidualProductQuantization(4, 1, 64),
}
CLIP_QUANTIZERS: Quantizers = {
    "temporal, 2 segments x 2 x 64": lambda: TemporalProductQuantization(2, 2, 64),
    "temporal residual, 2 x 2 levels x 1 x 64": lambda: TemporalProductQuantization(2, 1, 64, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs too")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, BATCH_SIZE)
    images = rng.integers(0, 256, (BATCH_SIZE, *IMAGE_SHAPE), dtype=np.uint8)
    clips = images.reshape(-1, NUM_FRAMES, *IMAGE_SHAPE)
    rows = [
        *compare("images", images, labels, IMAGE_QUANTIZERS, arguments.repeats),
        *compare("clips", clips, labels[: len(clips)], CLIP_QUANTIZERS, arguments.repeats),
    ]
    content = {
        "command": f"python benchmarks/step_time.py --repeats {arguments.repeats}",
        "batch": f"{BATCH_SIZE} images of 32 x 32 pixels, or {len(clips)} clips of 8 such frames",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "tensorflow": tf.__version__,
        "rows": rows,
    }
    OUTPUT.write_text(json.dumps(content, indent=1) + "\n")
    for row in rows:
        print(row)
    if arguments.docs:
        write_docs(content)


def compare(
    kind: str, items: np.ndarray, labels: np.ndarray, quantizers: Quantizers, repeats: int
) -> list[dict[str, Any]]:
    """Times of one step of each, taken in turns, and their ratios to the dense head."""
    steps = {"dense head": make_step(build_dense(items.shape[1:]), items, labels)}
    for name, build in quantizers.items():
        network = ProductQuantizationNetwork(
            build_backbone("conv3", IMAGE_SHAPE), build(), EMBEDDING_DIM
        )
        network.compile("adam", AsymmetricTripletLoss("softplus", 4.0))
        steps[name] = make_step(network, items, labels)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            # The first two rounds trace and warm up.
            if round_ >= 2:
                times[name].append(time.perf_counter() - started)
    # A round's ratio compares what ran within a second of each other.
    baseline = np.array(times["dense head"])
    return [
        {
            "items": kind,
            "head": name,
            "median_ms": float(np.median(taken) * 1000),
            "ratio": float(np.median(np.array(taken) / baseline)),
        }
        for name, taken in times.items()
    ]


def build_dense(item_shape: tuple[int, ...]) -> keras.Model:
    """Backbone, embedding, classes; of clips the features are averaged over the frames."""
    inputs = keras.Input(item_shape)
    backbone = build_backbone("conv3", IMAGE_SHAPE)
    if len(item_shape) == 4:
        features = keras.layers.TimeDistributed(backbone)(inputs)
        features = keras.layers.GlobalAveragePooling1D()(features)
    else:
        features = backbone(inputs)
    embedding = keras.layers.Dense(EMBEDDING_DIM)(features)
    model = keras.Model(inputs, keras.layers.Dense(NUM_CLASSES)(embedding))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def make_step(model: Any, items: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """One training step as a compiled function without arguments."""
    x, y = tf.constant(items), tf.constant(labels)
    model.optimizer.build(model.trainable_variables)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), training=True)
        variables = [variable.value for variable in model.trainable_variables]
        model.optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    return lambda: step().numpy()


def write_docs(content: dict[str, Any]) -> None:
    lines = [
        "# Cost of quantizing in training",
        "",
        "Made by `python benchmarks/step_time.py --docs` from",
        "[benchmarks/results/step_time.json](../benchmarks/results/step_time.json).",
        "",
        "| items | head | ms a step | ratio to the dense head |",
        "|---|---|---:|---:|",
        *(
            f"| {row['items']} | {row['head']} | {row['median_ms']:.0f} | {row['ratio']:.3f} |"
            for row in content["rows"]
        ),
        "",
        f"A step is forward, loss, gradients and Adam. It sees {content['batch']}, through the "
        f"3-conv backbone and an embedding of {EMBEDDING_DIM}. Heads take turns, and a ratio is "
        f"the median over the rounds. {content['cores']} cores, load {content['load_before']:.1f} "
        f"before the run; tensorflow {content['tensorflow']}.",
        "",
    ]
    (ROOT / "docs" / "step_time.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
