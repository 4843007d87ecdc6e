"""Two exported folders beside each other: times query by query in turn, and kernels of a request.

    python benchmarks/search_paired.py BEFORE AFTER QUERIES.npy --name "lists, 1,000,000 items"

The folders hold the same collection, exported by two versions of the package. Both answer the same
queries in one process, so a busy machine slows both. `bench.py --docs` shows the figures.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from environment import describe_machine
from search_engines import disable_xla
from tensorflow.core.protobuf.config_pb2 import CallableOptions, RunOptions

from tfpqn.export.loading.loaders import SessionLoader

OUTPUT = Path(__file__).parent / "results" / "search_paired.json"
SIGNATURE = "search_by_embedding"
LIBRARIES = ("tensorflow", "keras", "numpy")
TRACES, NUM_OPS = 30, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("queries", type=Path, help="float32 [queries, embedding_dim], .npy")
    parser.add_argument("--name", required=True, help="of the collection and its form")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--pairs", type=int, default=400, help="of one query; of more, fewer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(arguments.threads)
    disable_xla()
    figures = {"machine": describe_machine(LIBRARIES), **measure(arguments)}
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    content[arguments.name] = figures
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Kernels of one query, times of all batch sizes, and what the ops of the later one take."""
    queries = np.load(arguments.queries)
    with SessionLoader(arguments.before) as before, SessionLoader(arguments.after) as after:
        models = {"before": before, "after": after}
        kernels = {name: count_kernels(model, queries[:1]) for name, model in models.items()}
        times, ops = {}, {}
        for batch_size in arguments.batch_sizes:
            pairs = max(arguments.pairs * 4 // (3 + batch_size), 40)
            times[str(batch_size)] = time_pairs(models, queries, batch_size, pairs)
            ops[str(batch_size)] = time_ops(after, queries, batch_size)
    return {"kernels": kernels, "times": times, "ops_us": ops, "threads": arguments.threads}


def count_kernels(model: SessionLoader, queries: np.ndarray) -> dict[str, int]:
    """Kernels that ran for one request, by type of op."""
    counts = collections.Counter(name for name, _ in trace_kernels(model, queries))
    return {"all": counts.total(), **dict(counts.most_common())}


def trace_kernels(model: SessionLoader, queries: np.ndarray) -> list[tuple[str, int]]:
    """Type of op and nanoseconds of each kernel that ran for one request."""
    definition = model.signature_definitions[SIGNATURE]
    feed, fetch = (
        [info.name for _, info in sorted(infos.items())]
        for infos in (definition.inputs, definition.outputs)
    )
    options = CallableOptions(feed=feed, fetch=fetch)
    options.run_options.trace_level = RunOptions.FULL_TRACE
    metadata = tf.compat.v1.RunMetadata()
    call = model._session._make_callable_from_options(options)
    call(queries)
    call(queries, run_metadata=metadata)
    kernels = []
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            types = re.findall(r" = (\w+)\(", node.timeline_label)
            nanoseconds = node.op_end_rel_nanos - node.op_start_rel_nanos
            kernels.append((types[0] if types else "NoOp", nanoseconds))
    return kernels


def time_ops(model: SessionLoader, queries: np.ndarray, batch_size: int) -> dict[str, float]:
    """Median microseconds of all ops and of the `NUM_OPS` types that take longest."""
    requests = []
    for turn in range(TRACES):
        rows = (np.arange(batch_size) + turn * batch_size) % len(queries)
        requests.append(sum_times(trace_kernels(model, queries[rows])))
    medians = {
        name: float(np.median([own[name] for own in requests])) / 1000
        for name in set().union(*requests)
    }
    largest = sorted(medians.items(), key=lambda item: -item[1])[:NUM_OPS]
    return {"all": sum(medians.values()), **dict(largest)}


def sum_times(kernels: list[tuple[str, int]]) -> collections.Counter[str]:
    """Nanoseconds of each type of op."""
    times: collections.Counter[str] = collections.Counter()
    for name, nanoseconds in kernels:
        # A call takes the time of the kernels in it.
        if not name.endswith("PartitionedCall"):
            times[name] += nanoseconds
    return times


def find_largest(kernels: list[tuple[str, int]]) -> dict[str, Any]:
    """The type of op that takes most of the kernels' time, and its share."""
    times = sum_times(kernels)
    ((name, largest),) = times.most_common(1)
    return {"op": name, "share": largest / times.total()}


def time_pairs(
    models: dict[str, SessionLoader], queries: np.ndarray, batch_size: int, pairs: int
) -> dict[str, Any]:
    """Quartiles in milliseconds and the median of the ratios of pairs; each begins in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    warm_ups = pairs // 10 + 3
    for turn in range(warm_ups + pairs):
        rows = (np.arange(batch_size) + turn * batch_size) % len(queries)
        batch = queries[rows]
        for name in sorted(models, reverse=bool(turn % 2)):
            start = time.perf_counter()
            models[name].run(SIGNATURE, {"embeddings": batch})
            seconds[name].append(time.perf_counter() - start)
    counted = {name: 1000 * np.array(own[warm_ups:]) for name, own in seconds.items()}
    quartiles = {name: np.quantile(own, (0.25, 0.5, 0.75)) for name, own in counted.items()}
    return {
        "pairs": pairs,
        **{f"{name}_ms": own.tolist() for name, own in quartiles.items()},
        "ratio_of_medians": float(quartiles["after"][1] / quartiles["before"][1]),
        "median_ratio": float(np.median(counted["after"] / counted["before"])),
    }


if __name__ == "__main__":
    main()
