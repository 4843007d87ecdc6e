"""Time and memory of the exported search beside FAISS `IndexPQ` with the same codebooks and codes.

    python benchmarks/search.py             # measures, writes the JSON, prints the table
    python benchmarks/search.py --docs      # writes docs/benchmarks.md from the JSON

Codebooks, codes and queries are random. The collection is exported with `save_searcher`, and
`search_by_embedding` runs in a TensorFlow 1 session and through the C API with XLA disabled, the
way of the stock server. The engines take turns in one process with the same number of threads.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from machine import describe_machine

import tfpqn
from tfpqn.export import Searcher, save_searcher
from tfpqn.export.loaders import ServedModel, SessionLoader
from tfpqn.export.native_loader import NativeLoader
from tfpqn.index import CodeIndex, network_layout

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "search.json"
DOCS = ROOT / "docs" / "benchmarks.md"
# Ids beyond int32; FAISS counts from 0.
FIRST_ID = 2**32
WARM_UPS = 3
# Items whose scores are as near as this may stand for one another.
TIE = 1e-4
LIBRARIES = ("tensorflow", "keras", "numpy", "faiss-cpu")
TITLES = {"session": "TF session", "c_api": "TF C API", "faiss": "FAISS"}
SIZES = {"items": 1_000_000, "code_length": 8, "num_codewords": 256, "top_k": 100}
DEFAULTS = {**SIZES, "repeats": 20, "threads": 2, "seed": 0}

PAGE = """\
# Benchmarks

Made by `python benchmarks/search.py --docs` from
[search.json](../benchmarks/results/search.json); do not edit.

## Search in the graph beside FAISS

{items:,} codes of {code_length} positions with {num_codewords} codewords; {top_k} nearest items.

{table}

{method}
Peak memory is that of a fresh process above its memory with the index loaded. "Same ids" counts the
answers of both ways in that hold the items of FAISS, ties for the last place aside.

{cpu}, {cores} cores, load {load_before:.1f} before the run, {date}; {versions}.

    python benchmarks/search.py {options} --queries {queries}
"""


# `ids` and `scores`, each `[queries, top_k]`, best first.
Answer = dict[str, np.ndarray]
Engine = Callable[[np.ndarray], Answer]


def main() -> None:
    arguments = parse_arguments()
    if arguments.docs is not None:
        write_docs(json.loads(arguments.output.read_text()), arguments.docs)
    elif arguments.measure_memory is not None:
        print(json.dumps(watch_memory(arguments.measure_memory, *arguments.queries)))
    else:
        content = measure(arguments)
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")
        print("\n".join(format_table(content["results"])))
        agreements = [result["agreement"] for result in content["results"]]
        if any(agreement["same_ids"] < agreement["answers"] for agreement in agreements):
            sys.exit(f"The engines must find the same items. Received: {agreements}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in DEFAULTS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16], help="batch sizes")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--docs", type=Path, nargs="?", const=DOCS, help="only write this page")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    if arguments.num_codewords & (arguments.num_codewords - 1):
        parser.error(f"FAISS needs a power of two. Received: {arguments.num_codewords} codewords")
    if arguments.top_k > arguments.items:
        parser.error("Items must be at least as many as --top-k, so that both engines find as many")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    machine = describe_machine(LIBRARIES)
    # Read when the first device is made, here and in child processes.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(arguments.threads)
    network, index = make_collection(arguments)
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher(network, index, top_k=arguments.top_k)
        path = save_searcher(searcher, Path(folder) / "1")
        with SessionLoader(path) as session, NativeLoader(path, disable_xla=True) as native:
            engines = {"session": serve(session), "c_api": serve(native)}
            engines["faiss"] = make_faiss(network, index, arguments)
            results = [compare(engines, network, count, arguments) for count in arguments.queries]
        for result in results:
            result["peak_memory_mb"] = measure_memory(path, result["queries"])
    settings = {name: vars(arguments)[name] for name in DEFAULTS}
    return {"settings": settings, "machine": machine, "results": results}


def make_collection(arguments: argparse.Namespace) -> tuple[Any, CodeIndex]:
    """A small network with random codebooks, and random codes."""
    keras.utils.set_random_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    quantizer = tfpqn.layers.ProductQuantization(arguments.code_length, arguments.num_codewords)
    backbone = tfpqn.models.build_backbone("conv3", (32, 32, 3))
    dim = 16 * arguments.code_length
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, dim)
    quantizer.codebooks.assign(rng.normal(size=quantizer.codebooks.shape))
    layout = network_layout(network)
    shape = (arguments.items, arguments.code_length)
    codes = rng.integers(layout.num_codewords, size=shape, dtype=layout.code_dtype)
    return network, CodeIndex(layout, codes, np.arange(arguments.items) + FIRST_ID)


def serve(model: ServedModel) -> Engine:
    return lambda queries: model.run("search_by_embedding", {"embeddings": queries})


def make_faiss(network: Any, index: CodeIndex, arguments: argparse.Namespace) -> Engine:
    """FAISS with the same codebooks and codes; nothing is trained."""
    import faiss

    faiss.omp_set_num_threads(arguments.threads)
    codebooks = np.asarray(network.quantizer.unit_codebooks())
    bits, dim = arguments.num_codewords.bit_length() - 1, network.quantizer.embedding_dim
    flat = faiss.IndexPQ(dim, arguments.code_length, bits, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(codebooks.ravel(), flat.pq.centroids)
    flat.is_trained = True
    flat.add_sa_codes(faiss.pack_bitstrings(index.codes.astype(np.int32), bits))

    def search(queries: np.ndarray) -> Answer:
        scores, positions = flat.search(queries, arguments.top_k)
        return {"ids": positions + FIRST_ID, "scores": scores}

    return search


def compare(
    engines: dict[str, Engine], network: Any, num_queries: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Times of all engines for one batch size, and whether they find the same."""
    rng = np.random.default_rng([arguments.seed, num_queries])
    shape = (WARM_UPS + arguments.repeats, num_queries, network.quantizer.embedding_dim)
    batches = rng.normal(size=shape).astype(np.float32)
    # FAISS knows no normalisation: all get what is normalised already.
    rounds = [
        take_turns(engines, np.asarray(network.quantizer.normalize(batch)), turn)
        for turn, batch in enumerate(batches)
    ]
    # FAISS comes last.
    seconds = [[seconds[name] for name in engines] for seconds, _ in rounds[WARM_UPS:]]
    quartiles = 1000 * np.quantile(seconds, (0.25, 0.5, 0.75), axis=0).T
    times = {
        name: {"quartiles_ms": own.tolist(), "ratio_to_faiss": own[1] / quartiles[-1][1]}
        for name, own in zip(engines, quartiles, strict=True)
    }
    pairs = [(found[name], found["faiss"]) for _, found in rounds for name in ("session", "c_api")]
    return {"queries": num_queries, "engines": times, "agreement": describe_agreement(pairs)}


def take_turns(
    engines: dict[str, Engine], queries: np.ndarray, turn: int
) -> tuple[dict[str, float], dict[str, Answer]]:
    """Seconds and answers of each engine; another one begins at each turn."""
    seconds, found = {}, {}
    for place in range(len(engines)):
        name = list(engines)[(place + turn) % len(engines)]
        start = time.perf_counter()
        found[name] = engines[name](queries)
        seconds[name] = time.perf_counter() - start
    return seconds, found


def describe_agreement(pairs: list[tuple[Answer, Answer]]) -> dict[str, Any]:
    """How many answers hold the same items in both of each pair, and how far scores differ."""
    same = [
        holds_items_of(*pair, row) and holds_items_of(*reversed(pair), row)
        for pair in pairs
        for row in range(len(pair[0]["ids"]))
    ]
    largest = max(float(np.abs(ours["scores"] - theirs["scores"]).max()) for ours, theirs in pairs)
    return {"answers": len(same), "same_ids": sum(same), "largest_score_difference": largest}


def holds_items_of(ours: Answer, theirs: Answer, row: int) -> bool:
    """Whether ours lacks none of the items of theirs, but for such as tie for the last place."""
    scores = theirs["scores"][row]
    lacks = ~np.isin(theirs["ids"][row], ours["ids"][row])
    return bool((scores[lacks] <= scores[-1] + TIE).all())


def measure_memory(path: Path, num_queries: int) -> float:
    """Peak memory in MB of a search above the loaded index, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, "--measure-memory", path, "--queries", str(num_queries)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def watch_memory(path: Path, num_queries: int) -> float:
    """What that process does."""
    with NativeLoader(path, disable_xla=True) as model:
        (info,) = model.signatures["search_by_embedding"].inputs.values()
        batches = np.random.default_rng(0).normal(size=(5, num_queries, info.shape[1]))
        # Memory that loading has freed would hide what the search takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = read_memory("VmRSS")
        for queries in batches.astype(np.float32):
            model.run("search_by_embedding", {"embeddings": queries})
        return read_memory("VmHWM") - before


def read_memory(name: str) -> float:
    """One figure of this process in MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024


def format_table(results: list[dict[str, Any]]) -> list[str]:
    """The results as lines of Markdown."""
    lines = [
        "| queries | engine | median ms (quartiles) | ratio to FAISS | peak memory MB | same ids |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for result in results:
        same = "{same_ids} of {answers}".format(**result["agreement"])
        for name, times in result["engines"].items():
            lower, median, upper = times["quartiles_ms"]
            notes = f"{result['peak_memory_mb']:.0f} | {same}" if name == "c_api" else "|"
            lines.append(
                f"| {result['queries']} | {TITLES[name]} | {median:.1f} ({lower:.1f}-{upper:.1f}) "
                f"| {times['ratio_to_faiss']:.2f} | {notes} |"
            )
    return lines


def write_docs(content: dict[str, Any], path: Path) -> None:
    settings, machine, results = content["settings"], content["machine"], content["results"]
    page = PAGE.format(
        **settings,
        **{name: machine[name] for name in ("cpu", "cores", "load_before", "date")},
        table="\n".join(format_table(results)),
        method=(__doc__ or "").strip().split("\n\n")[-1],
        versions=", ".join(f"{name} {machine[name]}" for name in ("tfpqn", "python", *LIBRARIES)),
        options=" ".join(f"--{name} {settings[name]}" for name in settings).replace("_", "-"),
        queries=" ".join(str(result["queries"]) for result in results),
    )
    path.write_text(page)


if __name__ == "__main__":
    main()
