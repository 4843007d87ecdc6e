"""A peer in an environment of its own: ScaNN's TensorFlow op, usearch or turbovec.

    python -m venv ENV && ENV/bin/pip install 'scann[tf]' usearch turbovec

`peers.Peer` starts it with its settings as JSON. A first line of JSON tells that it is ready, or
why it cannot be. A request on standard input is the effort (leaves to look at, or the length of
the list that a graph keeps) and the number of queries, int32, and then these, float32; the answer
on standard output is their ids, int32, and scores, float32. It imports nothing of this package.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

# As the guide of ScaNN has it, for inner products.
ANISOTROPIC_THRESHOLD = 0.2
TRAINING_ROWS = 2**18

Settings = dict[str, Any]
# Queries and effort: ids and scores.
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    settings: Settings = json.loads(sys.argv[1])
    # Whatever libraries print goes to standard error.
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    os.environ["RAYON_NUM_THREADS"] = str(settings["threads"])
    build, libraries = BUILDERS[settings["engine"]]
    embeddings = np.load(settings["embeddings"])
    start = time.perf_counter()
    try:
        about: dict[str, Any] = {name: importlib.metadata.version(name) for name in libraries}
        search, about["bytes_per_item"] = build(embeddings, settings)
    except ImportError as error:
        output.write(json.dumps({"error": f"not installed: {error}"}).encode() + b"\n")
        return
    about["build_seconds"] = time.perf_counter() - start
    output.write(json.dumps(about).encode() + b"\n")
    output.flush()
    dim = embeddings.shape[1]
    del embeddings
    answer(search, dim, sys.stdin.buffer, output)


def build_scann(embeddings: np.ndarray, settings: Settings) -> tuple[Search, float]:
    """Codes of 4 bits a position, without re-ranking; in lists, or all of them if `lists` is 0."""
    import tensorflow as tf
    from scann.scann_ops.py import scann_ops

    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    positions, num_lists = 2 * settings["bytes"], settings["lists"]
    builder = scann_ops.builder(embeddings, settings["top_k"], settings["metric"])
    builder = builder.set_n_training_threads(settings["threads"])
    if num_lists:
        builder = builder.tree(num_lists, num_lists, training_sample_size=TRAINING_ROWS)
    width = -(-embeddings.shape[1] // positions)
    is_product = settings["metric"] == "dot_product"
    threshold = ANISOTROPIC_THRESHOLD if is_product else float("nan")
    searcher = builder.score_ah(width, threshold).build()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, embeddings.shape[1]], tf.float32),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def run(queries: tf.Tensor, num_probes: tf.Tensor) -> Any:
        # Of a single query there is nothing to share out.
        return tf.cond(
            tf.equal(tf.shape(queries)[0], 1),
            lambda: tuple(searcher.search_batched(queries, leaves_to_search=num_probes)),
            lambda: tuple(searcher.search_batched_parallel(queries, leaves_to_search=num_probes)),
        )

    def search(queries: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = run(queries, np.int32(effort))
        return ids.numpy(), scores.numpy()

    return search, float(settings["bytes"])


def build_usearch(embeddings: np.ndarray, settings: Settings) -> tuple[Search, float]:
    """A graph over the embeddings in 8 bits a dimension, with the defaults of usearch."""
    from usearch.index import Index

    # All embeddings of the benchmark have one length, so that this ranks as inner products do.
    index = Index(ndim=embeddings.shape[1], metric="cos", dtype="i8")
    index.add(np.arange(len(embeddings)), embeddings, threads=settings["threads"])

    def search(queries: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray]:
        index.expansion_search = effort
        found = index.search(queries, settings["top_k"], threads=settings["threads"])
        shape = (len(queries), -1)
        return found.keys.reshape(shape), -found.distances.reshape(shape)

    return search, index.memory_usage / len(embeddings)


def build_turbovec(embeddings: np.ndarray, settings: Settings) -> tuple[Search, float]:
    """All items in 2 bits a dimension, its fewest, and a factor of 4 bytes; effort has no part."""
    from turbovec import TurboQuantIndex

    index = TurboQuantIndex(dim=embeddings.shape[1], bit_width=2)
    index.add(embeddings)

    def search(queries: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray]:
        scores, ids = index.search(queries, k=settings["top_k"])
        return ids, scores

    return search, embeddings.shape[1] / 4 + 4


# What builds an engine, and the packages whose versions are told.
BUILDERS: dict[str, tuple[Callable[[np.ndarray, Settings], tuple[Search, float]], list[str]]] = {
    "scann": (build_scann, ["scann", "tensorflow"]),
    "usearch": (build_usearch, ["usearch"]),
    "turbovec": (build_turbovec, ["turbovec"]),
}


def answer(search: Search, dim: int, requests: BinaryIO, output: BinaryIO) -> None:
    """Answer one request after the other."""
    while header := requests.read(8):
        effort, num_queries = np.frombuffer(header, np.int32)
        queries = np.frombuffer(requests.read(4 * num_queries * dim), np.float32)
        ids, scores = search(queries.reshape(num_queries, dim), int(effort))
        output.write(ids.astype(np.int32).tobytes() + scores.astype(np.float32).tobytes())
        output.flush()


if __name__ == "__main__":
    main()
