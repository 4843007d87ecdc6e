"""Candidates by codes, ranked by half-precision vectors: recall and time beside FAISS and ScaNN.

    python benchmarks/second_stage.py --data-dir DIR [--scann-python ENV/bin/python]

Base: the 60,000 training images of Fashion-MNIST as 784 raw floats, with 500 test images as
queries, by distance; and `--items` vectors of 128 floats around random centres, by cosine. All
engines have as many lists, look at as many of them, and hold codes of as many bytes, fitted to as
few vectors. Ours is the signature `search` of a SavedModel in a session of TensorFlow 1, with codes
of PQ and, for few items, of levels. FAISS is OPQ, IVFPQ and IndexRefine with float16; ScaNN has a
tree, codes of 4 bits a position, and bfloat16. Recall is the share of the 10 true neighbours that
are among the 10 found. Times are those of one processor core, which other work on the machine
hardly changes: quartiles, of engines that are asked in turn. Collections that `--collections`
leaves out stay in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Also those of sessions.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
import faiss
import numpy as np
import tensorflow as tf
from environment import describe_machine
from vector_recall import load_images

from tfpqn.datasets import VectorSet
from tfpqn.export import Searcher
from tfpqn.export.loading.loaders import SessionLoader
from tfpqn.export.model.search_graph import SearchGraph
from tfpqn.index import CodeIndex, build_index
from tfpqn.layers import ProductQuantization, ResidualProductQuantization
from tfpqn.models import ProductQuantizationNetwork
from tfpqn.training import fit_vectors

OUTPUT = Path(__file__).parent / "results" / "second_stage.json"
# A single one: on a busy machine several would wait for one another.
THREADS = 1
NEIGHBOURS = 10
# 0: no second stage.
CANDIDATES = (0, 50, 100, 200, 400)
BATCHES = (1, 32)
TURNS = 21
FITTED_ROWS = 10_000
FIT_ROUNDS = 5
# Items up to which there are codes of levels, of the fewest bytes: they take longer to make.
MOST_LEVEL_ITEMS = 100_000

# From queries to ids `[queries, NEIGHBOURS]`.
Search = Callable[[np.ndarray], np.ndarray]


class Collection(NamedTuple):
    """Vectors to find, those to search with, and what was chosen for them."""

    name: str
    base: np.ndarray
    queries: np.ndarray
    similarity: str
    num_lists: int
    num_probes: int


class Engine(NamedTuple):
    """One way to hold a collection.

    `first_bytes` are those of the first stage with its positions or ids, `second_bytes` those of
    what ranks; `open` makes the search for so many candidates, `clock` has the engine's seconds.
    """

    name: str
    first_stage: str
    first_bytes: int
    second_bytes: int
    open: Callable[[int], Search]
    clock: Callable[[], float] = time.process_time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="of tensorflow-datasets")
    parser.add_argument("--scann-python", type=Path, help="of an environment with scann")
    parser.add_argument("--collections", nargs="+", help="fashion-mnist, clustered")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16], help="of a code")
    parser.add_argument("--items", type=int, default=1_000_000, help="of the random vectors")
    parser.add_argument("--small", action="store_true", help="a few random vectors, in seconds")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(THREADS)
    content = {
        "clock": "time of the processor",
        "command": "python benchmarks/second_stage.py --data-dir DIR --scann-python PYTHON --bytes "
        f"{' '.join(map(str, arguments.bytes))} --items {arguments.items}",
        "threads": THREADS,
        **describe_machine(("tensorflow", "keras", "numpy", "faiss-cpu")),
    }
    for collection in make_collections(arguments):
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            engines = list(make_engines(collection, Path(folder), arguments, stack))
            rows = measure(collection, engines)
        written = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        others = [row for row in written.get("rows", []) if row["collection"] != collection.name]
        text = json.dumps({**content, "rows": others + rows}, indent=1)
        arguments.output.write_text(text + "\n")


def make_collections(arguments: argparse.Namespace) -> Iterator[Collection]:
    if arguments.small:
        base, queries = draw_vectors(2000, 50)
        yield Collection("clustered", base, queries, "cosine", 8, 4)
        return
    wanted = arguments.collections or ["fashion-mnist", "clustered"]
    if "fashion-mnist" in wanted:
        base, queries = load_images(arguments.data_dir)
        yield Collection("fashion-mnist", base, queries[:500], "l2", 256, 16)
    if "clustered" in wanted:
        base, queries = draw_vectors(arguments.items, 500)
        yield Collection("clustered", base, queries, "cosine", 1024, 16)


def draw_vectors(num_items: int, num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of 128 numbers around 2,000 centres, which lie near a space of 24 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, 24), np.float32)
    spread = rng.standard_normal((24, 128), np.float32)
    count = num_items + num_queries
    vectors = centres[rng.integers(len(centres), size=count)]
    vectors += 0.5 * rng.standard_normal(vectors.shape, np.float32)
    vectors = vectors @ spread
    vectors += 0.3 * rng.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:num_items], vectors[num_items:]


def make_engines(
    collection: Collection, folder: Path, arguments: argparse.Namespace, stack: ExitStack
) -> Iterator[Engine]:
    for size in arguments.bytes:
        yield make_ours(collection, folder, size, stack, has_levels=False)
    if len(collection.base) <= MOST_LEVEL_ITEMS:
        yield make_ours(collection, folder, min(arguments.bytes), stack, has_levels=True)
    for size in arguments.bytes:
        yield make_faiss(collection, size)
    if arguments.scann_python:
        np.save(folder / "base.npy", collection.base)
        for size in arguments.bytes:
            yield make_scann(collection, folder, size, arguments.scann_python, stack)


def make_ours(
    collection: Collection, folder: Path, size: int, stack: ExitStack, *, has_levels: bool
) -> Engine:
    own = {"unit_codewords": False, "similarity": collection.similarity}
    if has_levels:
        # The last byte holds norms.
        quantizer = ResidualProductQuantization(size - 1, 1, beam_size=16, **own)
    else:
        quantizer = ProductQuantization(size, **own)
    network = ProductQuantizationNetwork(None, quantizer, None, rotation=not has_levels)
    network.build((None, collection.base.shape[1]))
    fit_vectors(network, collection.base[:FITTED_ROWS], iterations=FIT_ROUNDS)
    title = f"{size - 1} levels" if has_levels else f"rotation, PQ{size}"
    path, items = folder / title, VectorSet(collection.base)
    build_index(network, items, path, keep_embeddings=True, batch_size=4096)
    index = CodeIndex.load(path)
    searcher = Searcher(
        network,
        index,
        top_k=NEIGHBOURS,
        partition=collection.num_lists,
        num_probes=collection.num_probes,
        rerank=True,
    )
    model = stack.enter_context(SessionLoader(save(searcher, network, path / "1")))
    del searcher, index

    def open_search(num_candidates: int) -> Search:
        model.run("set_candidates", {"number": np.int32(num_candidates)})
        name = "search" if num_candidates else "search_codes"
        return lambda queries: model.run(name, {"embeddings": queries})["ids"]

    second = 2 * collection.base.shape[1]
    return Engine("tfpqn", title, size + 4, second, open_search)


def save(searcher: Any, network: Any, path: Path) -> Path:
    """Write a SavedModel with and without the second stage, for any number of candidates."""
    storage, number = searcher.storage, tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "number")])
    def set_candidates(value: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": number.assign(value)}

    searcher.storage = storage.coarse
    coarse = SearchGraph(searcher, network, network.quantizer).make_functions()["search"]
    searcher.storage, storage.num_candidates = storage, number
    both = SearchGraph(searcher, network, network.quantizer).make_functions()["search"]
    signatures = {"search_codes": coarse, "search": both, "set_candidates": set_candidates}
    tf.saved_model.save(searcher, str(path), signatures=signatures)
    return path


def make_faiss(collection: Collection, size: int) -> Engine:
    base, dim = collection.base, collection.base.shape[1]
    # Unit vectors have one order by cosine and by distance.
    index = faiss.index_factory(dim, f"OPQ{size},IVF{collection.num_lists},PQ{size}")
    rotation = faiss.downcast_VectorTransform(index.chain.at(0))
    rotation.niter, rotation.niter_pq_0 = FIT_ROUNDS, 2 * FIT_ROUNDS
    index.train(base[:FITTED_ROWS])
    halves = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16)
    refined = faiss.IndexRefine(index, halves)
    refined.add(base)
    lists = faiss.extract_index_ivf(index)

    def open_search(num_candidates: int) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            lists.nprobe = collection.num_probes
            refined.k_factor = num_candidates / NEIGHBOURS
            return (refined if num_candidates else index).search(queries, NEIGHBOURS)[1]

        return search

    return Engine("FAISS", f"OPQ{size}, IVFPQ", size + 8, 2 * dim, open_search)


def make_scann(
    collection: Collection, folder: Path, size: int, python: Path, stack: ExitStack
) -> Engine:
    measure = "squared_l2" if collection.similarity == "l2" else "dot_product"
    script = Path(__file__).with_name("second_stage_scann.py")
    numbers = (collection.num_lists, size, THREADS)
    command = [str(part) for part in (python, script, folder, measure, *numbers)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    stack.callback(process.communicate)
    requests, answers = process.stdin, process.stdout
    if requests is None or answers is None or answers.readline() != b"ready\n":
        raise RuntimeError("ScaNN's process must answer; it ended instead")
    seconds = np.zeros(1)

    def open_search(num_candidates: int) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            header = np.array([collection.num_probes, num_candidates, len(queries)], np.int32)
            requests.write(header.tobytes() + queries.astype(np.float32).tobytes())
            requests.flush()
            seconds[:] = np.frombuffer(answers.read(8))
            found = answers.read(4 * len(queries) * NEIGHBOURS)
            return np.frombuffer(found, np.int32).reshape(len(queries), NEIGHBOURS)

        return search

    dim = collection.base.shape[1]
    parts = ("ScaNN", f"tree, {size} bytes", size + 4, 2 * dim)
    return Engine(*parts, open_search, lambda: float(seconds[0]))


def measure(collection: Collection, engines: list[Engine]) -> list[dict[str, Any]]:
    """A row for each engine and number of candidates."""
    queries = collection.queries
    by = faiss.METRIC_L2 if collection.similarity == "l2" else faiss.METRIC_INNER_PRODUCT
    _, nearest = faiss.knn(queries, collection.base, NEIGHBOURS, metric=by)
    rows = []
    for num_candidates in CANDIDATES:
        searches = [engine.open(num_candidates) for engine in engines]
        times = {size: take_turns(engines, searches, queries, size) for size in BATCHES}
        for number, (engine, search) in enumerate(zip(engines, searches, strict=True)):
            starts = range(0, len(queries), BATCHES[-1])
            found = np.concatenate([search(queries[row : row + BATCHES[-1]]) for row in starts])
            shares = [np.isin(own, ids).mean() for own, ids in zip(nearest, found, strict=True)]
            row = {
                "collection": collection.name,
                "items": len(collection.base),
                "num_lists": collection.num_lists,
                "num_probes": collection.num_probes,
                "engine": engine.name,
                "first_stage": engine.first_stage,
                "first_bytes": engine.first_bytes,
                "second_bytes": engine.second_bytes if num_candidates else 0,
                "num_candidates": num_candidates,
                "recall": round(float(np.mean(shares)), 4),
                **{
                    f"ms_{size}": quartiles[:, number].round(3).tolist()
                    for size, quartiles in times.items()
                },
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def take_turns(
    engines: list[Engine], searches: list[Search], queries: np.ndarray, size: int
) -> np.ndarray:
    """Quartiles `[3, searches]` in ms for so many queries; another search begins each turn."""
    seconds = np.empty((TURNS, len(searches)))
    for turn in range(-2, TURNS):
        first = (turn + 2) * size % max(len(queries) - size, 1)
        batch = np.ascontiguousarray(queries[first : first + size])
        for place in range(len(searches)):
            number = (place + turn) % len(searches)
            start = engines[number].clock()
            searches[number](batch)
            seconds[turn, number] = engines[number].clock() - start
    return 1000 * np.quantile(seconds, (0.25, 0.5, 0.75), axis=0)


if __name__ == "__main__":
    main()
