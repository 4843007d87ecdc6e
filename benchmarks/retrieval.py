"""Candidates of two towers as codes of 8 bytes, beside brute force over their embeddings.

    python benchmarks/retrieval.py        # needs keras-rs

Draws interactions of users with items from hidden tastes, trains two embedding tables on them with
an in-batch softmax, and retrieves items for users by `keras_rs.layers.BruteForceRetrieval` and by
`tfpqn.retrieval.QuantizedRetrieval`. Measures:

- recall: the share of the k best by brute force that are among the k found;
- hits: the share of users whose held-out item is among the first 100 that they do not know;
- bytes: what the layer holds without ids, and its `.keras` file, with an int64 id for each item;
- milliseconds: the fastest and the median of many calls, which take turns between the layers.

Writes benchmarks/results/retrieval.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import keras_rs
import numpy as np
import tensorflow as tf
from environment import describe_machine
from keras import ops

from tfpqn.layers import ResidualProductQuantization
from tfpqn.retrieval import QuantizedRetrieval

OUTPUT = Path(__file__).parent / "results" / "retrieval.json"
FACTORS, GENRES, KNOWN, DIM = 16, 100, 100, 64
SHOWN = 100
NUM_QUERIES = 1000
CALLS = 30


class Interactions(NamedTuple):
    """Items `[users, KNOWN]` that users chose, and one more of each `[users]`, held out."""

    known: np.ndarray
    held_out: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--levels", action="store_true", help="and residual levels, in minutes")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    machine = describe_machine(("tensorflow", "keras", "keras-rs", "numpy"))
    interactions = draw_interactions(arguments.users, arguments.items)
    users, items = train(interactions, arguments.items, arguments.epochs)
    layers = make_layers(items, arguments.levels)
    rows = measure(layers, users[:NUM_QUERIES], interactions)
    flags = " --levels" if arguments.levels else ""
    sizes = f"--items {arguments.items} --users {arguments.users} --epochs {arguments.epochs}"
    command = f"python benchmarks/retrieval.py {sizes}{flags}"
    blas_threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    content = {"command": command, "blas_threads": blas_threads, **machine}
    content |= {"embedding_dim": DIM, "num_queries": NUM_QUERIES, "rows": rows}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def draw_interactions(num_users: int, num_items: int) -> Interactions:
    rng = np.random.default_rng(0)
    genres = rng.normal(size=(GENRES, FACTORS))

    def draw(number: int) -> np.ndarray:
        factors = genres[rng.integers(GENRES, size=number)] + rng.normal(size=(number, FACTORS))
        return factors.astype("float32")

    users, items = draw(num_users), draw(num_items)
    popularity = rng.normal(size=num_items).astype("float32")
    chosen = []
    for start in range(0, num_users, 200):
        chances = 0.5 * users[start : start + 200] @ items.T + popularity
        # The largest sums with Gumbel noise are a draw by these chances, without replacement.
        chances -= np.log(-np.log(rng.random(chances.shape, "float32") + 1e-9) + 1e-9)
        chosen.append(np.argpartition(-chances, KNOWN + 1, axis=1)[:, : KNOWN + 1])
    items_of_user = rng.permuted(np.concatenate(chosen), axis=1)
    return Interactions(items_of_user[:, :KNOWN], items_of_user[:, KNOWN])


class TwoTowers(keras.Model):
    """Two embedding tables; the loss is an in-batch softmax."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.users = keras.layers.Embedding(num_users, DIM)
        self.items = keras.layers.Embedding(num_items, DIM)

    def call(self, pairs: Any) -> Any:
        return ops.matmul(self.users(pairs[:, 0]), ops.transpose(self.items(pairs[:, 1])))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        own = ops.arange(ops.shape(y_pred)[0])
        return ops.mean(keras.losses.sparse_categorical_crossentropy(own, y_pred, from_logits=True))


def train(interactions: Interactions, num_items: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of users and of items."""
    num_users = len(interactions.known)
    users = np.repeat(np.arange(num_users), KNOWN)
    pairs = np.stack([users, interactions.known.ravel()], axis=1).astype("int32")
    model = TwoTowers(num_users, num_items)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(pairs, batch_size=2048, epochs=epochs, verbose=2)
    return model.users.get_weights()[0], model.items.get_weights()[0]


def make_layers(items: np.ndarray, with_levels: bool) -> dict[str, tuple[Any, float]]:
    """The layers by name, each with the seconds that it took to make."""
    ids = np.arange(len(items))
    levels = ResidualProductQuantization(8, 1, 256, similarity="dot", unit_codewords=False)
    makers = {
        "keras_rs.layers.BruteForceRetrieval": lambda: keras_rs.layers.BruteForceRetrieval(
            items, ids
        ),
        "QuantizedRetrieval": lambda: QuantizedRetrieval(items, ids),
    }
    if with_levels:
        makers["QuantizedRetrieval, 8 levels"] = lambda: QuantizedRetrieval(
            items, ids, quantizer=levels, rotation=False
        )
    layers = {}
    for name, make in makers.items():
        start = time.perf_counter()
        layer = make()
        layers[name] = layer, time.perf_counter() - start
        print(name, "made in", round(layers[name][1], 1), "s", flush=True)
    return layers


def measure(
    layers: dict[str, tuple[Any, float]], queries: np.ndarray, interactions: Interactions
) -> list[dict[str, Any]]:
    wide = SHOWN + KNOWN
    exact, *_ = found = [retrieve(layer, queries, wide) for layer, _ in layers.values()]
    times = measure_times([layer for layer, _ in layers.values()], queries)
    rows = []
    for (name, (layer, seconds)), ids, milliseconds in zip(
        layers.items(), found, times, strict=True
    ):
        row = {
            "layer": name,
            "recall_10": share(exact[:, :10], ids[:, :10]),
            "recall_100": share(exact[:, :100], ids[:, :100]),
            "hits_100": measure_hits(ids, interactions),
            "held_bytes": held_bytes(layer),
            "file_bytes": file_bytes(layer),
            "seconds_to_make": round(seconds, 1),
            **milliseconds,
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def retrieve(layer: Any, queries: np.ndarray, k: int) -> np.ndarray:
    """Ids `[queries, k]`, a hundred queries at a time."""
    layer.k, before = k, layer.k
    parts = [layer(queries[start : start + 100])[1] for start in range(0, len(queries), 100)]
    layer.k = before
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def share(wanted: np.ndarray, found: np.ndarray) -> float:
    shared = [len(set(one) & set(other)) for one, other in zip(wanted, found, strict=True)]
    return round(float(np.mean(shared)) / wanted.shape[1], 4)


def measure_hits(found: np.ndarray, interactions: Interactions) -> float:
    hits = []
    for ids, known, wanted in zip(found, *interactions, strict=False):
        unknown = ids[~np.isin(ids, known)][:SHOWN]
        hits.append(wanted in unknown)
    return round(float(np.mean(hits)), 4)


def held_bytes(layer: Any) -> int:
    """Bytes of the arrays in the layer's file: embeddings, or codes and codebooks; no ids."""
    if isinstance(layer, QuantizedRetrieval):
        held = layer.candidates
        arrays = [held.held_codes(), *map(ops.convert_to_numpy, held.weights)]
        return sum(array.nbytes for array in arrays)
    return int(np.prod(layer.candidate_embeddings.shape)) * 4


def file_bytes(layer: Any) -> int | None:
    """Bytes of the file that brings the layer back; Keras-RS' keeps no candidates."""
    if not isinstance(layer, QuantizedRetrieval):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.keras"
        layer.save(path)
        return path.stat().st_size


def measure_times(layers: list[Any], queries: np.ndarray) -> list[dict[str, float]]:
    """Milliseconds of a call on 1 and on 100 queries, compiled, by turns."""
    calls = [tf.function(lambda batch, layer=layer: layer(batch)) for layer in layers]
    rows: list[dict[str, float]] = [{} for _ in layers]
    for size in (1, 100):
        batch = tf.constant(queries[:size])
        times: list[list[float]] = [[] for _ in layers]
        for turn in range(CALLS + 2):
            for call, taken in zip(calls, times, strict=True):
                start = time.perf_counter()
                call(batch)[1].numpy()
                # The first two trace and warm up.
                taken += [(time.perf_counter() - start) * 1000] if turn > 1 else []
        for row, taken in zip(rows, times, strict=True):
            row[f"fastest_ms_{size}"] = round(min(taken), 2)
            row[f"median_ms_{size}"] = round(float(np.median(taken)), 2)
    return rows


if __name__ == "__main__":
    main()
