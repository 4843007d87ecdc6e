"""ScaNN's TensorFlow op in an environment of its own, which holds another TensorFlow.

    python -m venv ENV && ENV/bin/pip install 'scann[tf]'

Started by `search.py --scann-python ENV/bin/python`. A first line of JSON tells that it is ready.
A request on standard input is the number of
leaves to look at and the number of queries, int32, and then these, float32; the answer on standard
output is their ids, int32, and scores, float32. It imports nothing of this package.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Of 4 bits each, so that items take as many bits as codes of 8 positions of 8 bits.
NUM_POSITIONS = 16
# As the guide of ScaNN has it.
ANISOTROPIC_THRESHOLD = 0.2
TRAINING_ROWS = 2**18


def main() -> None:
    folder, top_k, num_leaves, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    # Whatever libraries print goes to standard error.
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    start = time.perf_counter()
    embeddings = np.load(folder / "embeddings.npy")
    search = build(embeddings, top_k, num_leaves, threads)
    about: dict[str, Any] = {
        name: importlib.metadata.version(name) for name in ("scann", "tensorflow")
    }
    about["build_seconds"] = time.perf_counter() - start
    output.write(json.dumps(about).encode() + b"\n")
    output.flush()
    answer(search, embeddings.shape[1], sys.stdin.buffer, output)


def build(embeddings: np.ndarray, top_k: int, num_leaves: int, threads: int) -> Any:
    """A function of queries and of the number of leaves to look at."""
    import tensorflow as tf
    from scann.scann_ops.py import scann_ops

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    searcher = (
        scann_ops.builder(embeddings, top_k, "dot_product")
        .set_n_training_threads(threads)
        .tree(num_leaves, num_leaves, training_sample_size=TRAINING_ROWS)
        .score_ah(embeddings.shape[1] // NUM_POSITIONS, ANISOTROPIC_THRESHOLD)
        .build()
    )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, embeddings.shape[1]], tf.float32),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def search(queries: tf.Tensor, num_probes: tf.Tensor) -> Any:
        # Of a single query there is nothing to share out.
        return tf.cond(
            tf.equal(tf.shape(queries)[0], 1),
            lambda: tuple(searcher.search_batched(queries, leaves_to_search=num_probes)),
            lambda: tuple(searcher.search_batched_parallel(queries, leaves_to_search=num_probes)),
        )

    return search


def answer(search: Any, dim: int, requests: BinaryIO, output: BinaryIO) -> None:
    """Answer one request after the other; a request of no leaves is sent back as it came."""
    while header := requests.read(8):
        num_probes, num_queries = np.frombuffer(header, np.int32)
        queries = np.frombuffer(requests.read(4 * num_queries * dim), np.float32)
        if num_probes:
            ids, scores = search(queries.reshape(num_queries, dim), num_probes)
            output.write(ids.numpy().astype(np.int32).tobytes() + scores.numpy().tobytes())
        else:
            output.write(queries.tobytes())
        output.flush()


if __name__ == "__main__":
    main()
