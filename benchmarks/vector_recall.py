"""Neighbours found by codes of a few bytes, without training, beside FAISS and ScaNN.

    python benchmarks/vector_recall.py --data-dir DIR
    python benchmarks/vector_recall.py --vectors cifar10-features --data-dir DIR --weights FILE
    python benchmarks/vector_recall.py --vectors FILE.npz       # arrays `vectors` and `queries`

fashion-mnist: the 60,000 training images as 784 raw floats, and 1,000 test images as queries.
cifar10-features: 20,000 training images and 1,000 test images as a frozen EfficientNet-Lite0 has
them, 1,280 floats of length 1. `sentence_vectors.py` makes a file of sentences.

The measures are recall 10@10, the share of the 10 nearest by distance that are among the 10 found,
and recall@1, the share of the queries whose nearest is found first. All methods of a size spend the
same bytes: our levels have one level less than FAISS's residual quantizer, whose byte holds the
norm. FAISS decodes its additive codes and so knows the norms exactly. ScaNN's codes have 4 bits a
position; it scores all items, and re-ranks none. FAISS LSQ is trained on fewer vectors, in fewer
rounds, to bound its time. Writes benchmarks/results/vector_recall.json; rows of it that are not
measured stay.

Tried for levels in trials of which no record was kept, and worse: the norm of the reconstruction
alone in the last byte, or a part of the norm in each position; the inner product with the item's
own norm; levels fitted where directions count by how far neighbours differ in them. For product
quantization, errors of codewords in the tables were worse. Steps for the ranking of neighbours,
with a rotation, gained too little to be built.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import faiss
import keras
import numpy as np
from environment import describe_machine
from peers import Peer

from tfpqn.codebooks import ranking
from tfpqn.codebooks.fitting import fit_vectors
from tfpqn.layers import ProductQuantization, ResidualProductQuantization

OUTPUT = Path(__file__).parent / "results" / "vector_recall.json"
NEIGHBOURS = 10
ROWS_AT_ONCE = 1000
LSQ_VECTORS = 20_000
LSQ_ROUNDS = 8
NUM_FEATURES = 20_000
IMAGE_SIZE = 128

Search = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", default="fashion-mnist", help="or cifar10-features, or a file")
    parser.add_argument("--data-dir", type=Path, help="of tensorflow-datasets")
    parser.add_argument("--weights", type=Path, help="of EfficientNet-Lite0, for cifar10-features")
    parser.add_argument("--scann-python", type=Path, help="of an environment with scann[tf]")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--methods", nargs="+", help="names of rows; all if not given")
    parser.add_argument("--threads", type=int, default=2, help="of FAISS")
    parser.add_argument("--small", action="store_true", help="random vectors, in seconds")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    machine = describe_machine(("tensorflow", "keras", "numpy", "scikit-learn", "faiss-cpu"))
    base, queries = draw_vectors() if arguments.small else load_vectors(arguments)
    _, nearest = faiss.knn(queries, base, NEIGHBOURS)
    for size in arguments.bytes:
        for name, fit in make_methods(size, arguments.scann_python):
            if arguments.methods and name not in arguments.methods:
                continue
            figures = measure(fit, base, queries, nearest)
            row = {"vectors": Path(arguments.vectors).stem, "bytes": size, "method": name}
            row |= {"items": len(base), "queries": len(queries), **figures}
            row |= {"threads": arguments.threads, **machine}
            print(json.dumps(row), flush=True)
            write(arguments.output, row)


def write(path: Path, row: dict[str, Any]) -> None:
    """Put a row into the file, in the place of the one that is there."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    keyed = {(own["vectors"], own["bytes"], own["method"]): own for own in [*rows, row]}
    ordered = [keyed[key] for key in sorted(keyed, key=lambda key: key[:2])]
    content = {"command": "python benchmarks/vector_recall.py --data-dir DIR", "rows": ordered}
    path.write_text(json.dumps(content, indent=1) + "\n")


def load_vectors(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Base and queries, float32 `[rows, dim]`."""
    if arguments.vectors == "fashion-mnist":
        return load_images(arguments.data_dir)
    if arguments.vectors == "cifar10-features":
        splits = f"train[:{NUM_FEATURES}]", "test[:1000]"
        images = (load_split("cifar10", arguments.data_dir, split) for split in splits)
        base, queries = (embed(own, arguments.weights) for own in images)
        return base, queries
    with np.load(arguments.vectors) as file:
        return tuple(np.asarray(file[name], np.float32) for name in ("vectors", "queries"))


def load_images(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST, its pixels as floats."""
    splits = (load_split("fashion_mnist", data_dir, own) for own in ("train", "test[:1000]"))
    base, queries = (np.asarray(own.reshape(len(own), -1), np.float32) for own in splits)
    return base, queries


def load_split(name: str, data_dir: Path | None, split: str) -> np.ndarray:
    import tensorflow_datasets as tfds

    items = tfds.load(name, data_dir=data_dir, download=False, split=split, batch_size=-1)
    return np.asarray(items["image"].numpy())


def embed(images: np.ndarray, weights: Path) -> np.ndarray:
    """Unit features of images by a frozen network."""
    from tfpqn.models import build_backbone

    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    backbone = build_backbone("efficientnet_lite0", shape, weights=str(weights))

    def run(rows: np.ndarray) -> np.ndarray:
        resized = keras.ops.image.resize(rows.astype(np.float32), shape[:2])
        return np.asarray(backbone.predict_on_batch(resized), np.float32)

    features = in_chunks(run, images, 100)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def draw_vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(16, 32))
    vectors = (rng.normal(size=(1100, 16)) @ spread).astype(np.float32)
    return vectors[:1000], vectors[1000:]


def make_methods(
    size: int, scann_python: Path | None
) -> Iterator[tuple[str, Callable[[np.ndarray], Search]]]:
    """Names, and what fits a method to a base and gives its search."""
    own = {"unit_codewords": False, "similarity": "l2"}
    yield "tfpqn PQ", lambda base: fit_ours(ProductQuantization(size, **own), base)
    yield "FAISS PQ", lambda base: fit_faiss(f"PQ{size}", base)
    yield "tfpqn rotation + PQ", lambda base: fit_ours(ProductQuantization(size, **own), base, True)
    yield "FAISS OPQ", lambda base: fit_faiss(f"OPQ{size},PQ{size}", base)
    yield "tfpqn levels", lambda base: fit_levels(size, base)
    yield "tfpqn levels, fitted alone", lambda base: fit_levels_alone(size, base)
    yield "FAISS RQ", lambda base: fit_faiss(f"RQ{size}x8", base)
    yield "FAISS PRQ, 2 subspaces", lambda base: fit_faiss(f"PRQ2x{size // 2}x8", base)
    yield "FAISS LSQ, bounded", lambda base: fit_lsq(size, base)
    if scann_python is not None:
        yield "ScaNN", lambda base: fit_scann(size, base, scann_python)


def fit_ours(quantizer: Any, base: np.ndarray, has_rotation: bool = False) -> Search:
    dim = base.shape[1]
    quantizer.build((None, dim))
    rotation = None
    if has_rotation:
        rotation = keras.layers.Dense(dim, use_bias=False)
        rotation.build((None, dim))
    fit_vectors(SimpleNamespace(quantizer=quantizer, rotation=rotation), base)

    def embed(vectors: np.ndarray) -> np.ndarray:
        return vectors if rotation is None else vectors @ np.asarray(rotation.kernel)

    codes = in_chunks(lambda rows: np.asarray(quantizer.encode(embed(rows))), base)

    def search(queries: np.ndarray) -> np.ndarray:
        tables = np.asarray(quantizer.lookup_tables(embed(queries)))
        scores = sum(tables[:, p, codes[:, p]] for p in range(codes.shape[1]))
        return np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :NEIGHBOURS]

    return search


def fit_levels(size: int, base: np.ndarray) -> Search:
    levels = ResidualProductQuantization(
        size - 1, 1, beam_size=16, unit_codewords=False, similarity="l2"
    )
    return fit_ours(levels, base)


def fit_levels_alone(size: int, base: np.ndarray) -> Search:
    """Without the steps for the ranking of neighbours that follow the fit."""
    with mock.patch.object(ranking, "ROUNDS", 0):
        return fit_levels(size, base)


def fit_faiss(factory: str, base: np.ndarray) -> Search:
    index = faiss.index_factory(base.shape[1], factory)
    index.train(base)
    index.add(base)
    return lambda queries: index.search(queries, NEIGHBOURS)[1]


def fit_lsq(size: int, base: np.ndarray) -> Search:
    """Additive codes by local search, which `LSQ_VECTORS` and `LSQ_ROUNDS` keep to minutes."""
    index = faiss.index_factory(base.shape[1], f"LSQ{size}x8")
    index.lsq.train_iters = LSQ_ROUNDS
    rows = np.random.default_rng(0).permutation(len(base))[:LSQ_VECTORS]
    index.train(base[rows])
    index.add(base)
    return lambda queries: index.search(queries, NEIGHBOURS)[1]


def fit_scann(size: int, base: np.ndarray, python: Path) -> Search:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npy"
        np.save(path, base)
        # Both rank vectors of one length alike; the anisotropic codes are for inner products.
        lengths = np.linalg.norm(base, axis=1)
        metric = "dot_product" if np.allclose(lengths, 1, atol=1e-3) else "squared_l2"
        settings = {"metric": metric, "bytes": size, "lists": 0}
        peer = Peer(python, "scann", path, NEIGHBOURS, threads=1, **settings)
    return lambda queries: peer.search(queries)["ids"]


def measure(
    fit: Callable[[np.ndarray], Search], base: np.ndarray, queries: np.ndarray, nearest: np.ndarray
) -> dict[str, float]:
    """Recall, and seconds: those that passed beside other work, and those of the processors."""
    start, start_of_work = time.perf_counter(), time.process_time()
    search = fit(base)
    seconds, work = time.perf_counter() - start, time.process_time() - start_of_work
    found = in_chunks(search, queries, 100)
    shares = [np.isin(own, true).mean() for own, true in zip(found, nearest, strict=True)]
    return {
        "recall": round(float(np.mean(shares)), 4),
        "fit_and_encode_s": round(seconds, 1),
        "processor_s": round(work, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def in_chunks(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, size: int = ROWS_AT_ONCE
) -> np.ndarray:
    starts = range(0, len(rows), size)
    return np.concatenate([function(rows[start : start + size]) for start in starts])


if __name__ == "__main__":
    main()
