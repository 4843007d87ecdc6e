"""ScaNN with reordering, in an environment of its own, for `second_stage.py --scann-python`.

    python -m venv ENV && ENV/bin/pip install scann

Started with a folder that holds `base.npy`, the measure, the number of leaves, the bytes of a code
and the number of threads. A first line on standard output tells that it is ready. A request on
standard input is the number of leaves to look at, the candidates (0 for no reordering) and the
number of queries, int32, and then these, float32; the answer is the seconds of a
processor that it has taken so far, float64, and their ids, int32. It imports nothing of this
package.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

NEIGHBOURS = 10
ANISOTROPIC_THRESHOLD = 0.2
TRAINING_ROWS = 2**17


def main() -> None:
    folder, measure = Path(sys.argv[1]), sys.argv[2]
    num_leaves, num_bytes, threads = map(int, sys.argv[3:6])
    # Whatever libraries print goes to standard error.
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    from scann.scann_ops.py import scann_ops_pybind
    from scann.scann_ops.py.scann_builder import ReorderType

    base = np.load(folder / "base.npy")
    rows = min(TRAINING_ROWS, len(base))
    # Positions of 4 bits each, two in a byte.
    width = -(-base.shape[1] // (2 * num_bytes))
    builder = scann_ops_pybind.builder(base, NEIGHBOURS, measure).set_n_training_threads(threads)
    builder = builder.tree(num_leaves, num_leaves, training_sample_size=rows)
    is_product = measure == "dot_product"
    builder = builder.score_ah(
        width, ANISOTROPIC_THRESHOLD if is_product else float("nan"), training_sample_size=rows
    )
    builder = builder.reorder(10 * NEIGHBOURS, quantize=ReorderType.BFLOAT16)
    searcher = builder.build()
    output.write(b"ready\n")
    output.flush()
    while header := sys.stdin.buffer.read(12):
        leaves, candidates, count = map(int, np.frombuffer(header, np.int32))
        queries = np.frombuffer(sys.stdin.buffer.read(4 * count * base.shape[1]), np.float32)
        queries = queries.reshape(count, -1)
        search, options = searcher.search_batched, {}
        if count > 1:
            search, options = searcher.search_batched_parallel, {"batch_size": -(-count // threads)}
        ids, _ = search(queries, NEIGHBOURS, max(candidates, NEIGHBOURS), leaves, **options)
        output.write(
            np.float64(time.process_time()).tobytes() + np.asarray(ids, np.int32).tobytes()
        )
        output.flush()


if __name__ == "__main__":
    main()
