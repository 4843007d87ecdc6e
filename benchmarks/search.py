"""Time and memory of the exported search beside FAISS `IndexPQ` with the same codebooks and codes.

    python benchmarks/search.py             # measures, writes the JSON, prints the table
    python benchmarks/search.py --docs      # writes docs/benchmarks.md from the JSON

Codebooks, codes and queries are random. The collection is exported with `save_searcher` and searched
through a TensorFlow 1 session and through the C API without XLA, the way of the stock server. The
engines take turns in one process with the same number of threads.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

import tfpqn
from tfpqn.export import Searcher, save_searcher
from tfpqn.export.loaders import ServedModel, SessionLoader
from tfpqn.export.native_loader import NativeLoader
from tfpqn.index import CodeIndex, network_layout

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "search.json"
DOCS = ROOT / "docs" / "benchmarks.md"
IMAGE_SHAPE = (32, 32, 3)
SUBVECTOR_DIM = 16
# Ids beyond int32; FAISS counts from 0.
FIRST_ID = 2**32
WARM_UPS = 3
# Items whose scores are as near as this may stand for one another.
TIE = 1e-4
LIBRARIES = ("tensorflow", "keras", "numpy", "faiss-cpu")
ENGINE_TITLES = {"session": "TF session", "c_api": "TF C API", "faiss": "FAISS"}


class Found(NamedTuple):
    """Ids and scores `[queries, top_k]`, best first."""

    ids: np.ndarray
    scores: np.ndarray


Engine = Callable[[np.ndarray], Found]


def main() -> None:
    arguments = parse_arguments()
    if arguments.docs is not None:
        write_docs(json.loads(arguments.output.read_text()), arguments.docs)
    elif arguments.measure_memory is not None:
        print(json.dumps(search_and_watch_memory(arguments.measure_memory, *arguments.queries)))
    else:
        content = measure(arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")
        print("\n".join(format_table(content["results"])))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--code-length", type=int, default=8)
    parser.add_argument("--num-codewords", type=int, default=256, help="a power of two")
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16], help="batch sizes")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--docs", type=Path, nargs="?", const=DOCS, help="only write this page")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.num_codewords & (arguments.num_codewords - 1):
        parser.error(f"FAISS needs a power of two. Received: {arguments.num_codewords} codewords")
    if arguments.top_k > arguments.items:
        parser.error("Items must be at least as many as --top-k, so that both engines find as many")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    machine = describe_machine()
    use_threads(arguments.threads)
    network, index = make_collection(arguments)
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher(network, index, top_k=arguments.top_k)
        path = save_searcher(searcher, Path(folder) / "1")
        memory = [measure_memory(path, count) for count in arguments.queries]
        with SessionLoader(path) as session, NativeLoader(path, disable_xla=True) as native:
            engines = {
                "session": served(session),
                "c_api": served(native),
                "faiss": make_faiss(network, index, arguments),
            }
            results = [compare(engines, network, count, arguments) for count in arguments.queries]
    for result, peak in zip(results, memory, strict=True):
        result["peak_memory_mb"] = peak
    names = ("items", "code_length", "num_codewords", "top_k", "repeats", "threads", "seed")
    settings = {name: getattr(arguments, name) for name in names}
    return {"settings": settings, "machine": machine, "results": results}


def use_threads(threads: int) -> None:
    """For TensorFlow in this process and its children; read when the first device is made."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)


def make_collection(arguments: argparse.Namespace) -> tuple[Any, CodeIndex]:
    """A small network with random codebooks, and random codes."""
    keras.utils.set_random_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    quantizer = tfpqn.layers.ProductQuantization(arguments.code_length, arguments.num_codewords)
    network = tfpqn.models.ProductQuantizationNetwork(
        tfpqn.models.build_backbone("conv3", IMAGE_SHAPE),
        quantizer,
        embedding_dim=arguments.code_length * SUBVECTOR_DIM,
    )
    quantizer.codebooks.assign(rng.normal(size=quantizer.codebooks.shape))
    layout = network_layout(network)
    codes = rng.integers(
        layout.num_codewords, size=(arguments.items, layout.code_length), dtype=layout.code_dtype
    )
    return network, CodeIndex(layout, codes, np.arange(arguments.items) + FIRST_ID)


def served(model: ServedModel) -> Engine:
    """The exported search behind a loader."""
    return lambda queries: Found(**model.run("search_by_embedding", {"embeddings": queries}))


def make_faiss(network: Any, index: CodeIndex, arguments: argparse.Namespace) -> Engine:
    """FAISS with the same codebooks and codes; nothing is trained."""
    import faiss

    faiss.omp_set_num_threads(arguments.threads)
    codebooks = np.asarray(network.quantizer.unit_codebooks())
    bits = arguments.num_codewords.bit_length() - 1
    flat = faiss.IndexPQ(
        network.quantizer.embedding_dim, arguments.code_length, bits, faiss.METRIC_INNER_PRODUCT
    )
    faiss.copy_array_to_vector(codebooks.ravel(), flat.pq.centroids)
    flat.is_trained = True
    flat.add_sa_codes(faiss.pack_bitstrings(index.codes.astype(np.int32), bits))

    def search(queries: np.ndarray) -> Found:
        scores, positions = flat.search(queries, arguments.top_k)
        return Found(positions + FIRST_ID, scores)

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
    medians = {
        name: summarize([seconds[name] for seconds, _ in rounds[WARM_UPS:]]) for name in engines
    }
    for figures in medians.values():
        figures["ratio_to_faiss"] = figures["median_ms"] / medians["faiss"]["median_ms"]
    pairs = [
        (found[name], found["faiss"]) for _, found in rounds for name in found if name != "faiss"
    ]
    return {"queries": num_queries, "engines": medians, "agreement": describe_agreement(pairs)}


def take_turns(
    engines: dict[str, Engine], queries: np.ndarray, turn: int
) -> tuple[dict[str, float], dict[str, Found]]:
    """Seconds and answers of each engine; another one begins at each turn."""
    names = list(engines)
    first = turn % len(names)
    seconds, found = {}, {}
    for name in names[first:] + names[:first]:
        start = time.perf_counter()
        found[name] = engines[name](queries)
        seconds[name] = time.perf_counter() - start
    return seconds, found


def summarize(seconds: list[float]) -> dict[str, float]:
    lower, median, upper = (1000 * np.quantile(seconds, (0.25, 0.5, 0.75))).tolist()
    return {"median_ms": median, "lower_quartile_ms": lower, "upper_quartile_ms": upper}


def describe_agreement(pairs: list[tuple[Found, Found]]) -> dict[str, Any]:
    """How many queries find the same items in both of each pair, and with what scores."""
    strays = [
        stray_distances(ours, theirs, row) for ours, theirs in pairs for row in range(len(ours.ids))
    ]
    return {
        "queries": len(strays),
        "same_ids": sum(not distances for distances in strays),
        "same_ids_but_for_ties": sum(max(distances, default=0) <= TIE for distances in strays),
        "largest_score_difference": max(
            float(np.abs(ours.scores - theirs.scores).max()) for ours, theirs in pairs
        ),
    }


def stray_distances(ours: Found, theirs: Found, row: int) -> list[float]:
    """How far from the last place those items score that only one of both found."""
    ours_by_id, theirs_by_id = (
        dict(zip(found.ids[row].tolist(), found.scores[row].tolist(), strict=True))
        for found in (ours, theirs)
    )
    last = min(ours_by_id.values())
    scores = ours_by_id | theirs_by_id
    return [abs(scores[item] - last) for item in ours_by_id.keys() ^ theirs_by_id.keys()]


def measure_memory(path: Path, num_queries: int) -> float | None:
    """Peak memory in MB of a search above the loaded index, in a fresh process of its own."""
    command = [sys.executable, __file__, "--measure-memory", str(path)]
    command += ["--queries", str(num_queries)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    process = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def search_and_watch_memory(path: Path, num_queries: int) -> float | None:
    """What the process above does; None where the system does not tell (it takes Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    with NativeLoader(path, disable_xla=True) as model:
        (info,) = model.signatures["search_by_embedding"].inputs.values()
        rng = np.random.default_rng(0)
        batches = rng.normal(size=(5, num_queries, info.shape[1])).astype(np.float32)
        # Memory that loading has freed would hide what the search takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = read_memory("VmRSS")
        for queries in batches:
            model.run("search_by_embedding", {"embeddings": queries})
        return read_memory("VmHWM") - before


def read_memory(name: str) -> float:
    """One figure of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024


def describe_machine() -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "tfpqn": tfpqn.__version__,
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def format_table(results: list[dict[str, Any]]) -> list[str]:
    """The results as lines of Markdown."""
    lines = [
        "| queries | engine | median ms (quartiles) | ours / FAISS | peak memory MB | same ids |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for result in results:
        agreement, peak = result["agreement"], result["peak_memory_mb"]
        for name, times in result["engines"].items():
            quartiles = f"{times['lower_quartile_ms']:.1f} - {times['upper_quartile_ms']:.1f}"
            agreed = f"{agreement['same_ids_but_for_ties']} of {agreement['queries']}"
            lines.append(
                f"| {result['queries']} | {ENGINE_TITLES[name]} "
                f"| {times['median_ms']:.1f} ({quartiles}) | {times['ratio_to_faiss']:.2f} "
                f"| {'' if name != 'c_api' or peak is None else f'{peak:.0f}'} "
                f"| {'' if name == 'faiss' else agreed} |"
            )
    return lines


def format_command(settings: dict[str, Any], results: list[dict[str, Any]]) -> str:
    options = [f"--{name.replace('_', '-')} {value}" for name, value in settings.items()]
    queries = " ".join(str(result["queries"]) for result in results)
    return f"python benchmarks/search.py {' '.join(options)} --queries {queries}"


def write_docs(content: dict[str, Any], path: Path) -> None:
    settings, machine, results = content["settings"], content["machine"], content["results"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("tfpqn", "python", *LIBRARIES))
    lines = [
        *("# Benchmarks", ""),
        "Made by `python benchmarks/search.py --docs` from",
        *("[search.json](../benchmarks/results/search.json); do not edit.", ""),
        *("## Search in the graph beside FAISS", ""),
        f"{settings['items']:,} codes of {settings['code_length']} positions with "
        f"{settings['num_codewords']} codewords each, the nearest {settings['top_k']} items:",
        *("", *format_table(results), ""),
        "Codebooks, codes and queries are random, and the same for all. FAISS is `IndexPQ` with inner",
        "product. The exported model is searched by `search_by_embedding` through a TensorFlow 1",
        "session and through the C API with XLA disabled, as the stock server runs it. The engines",
        "take turns in one process. Peak memory is that of a fresh process above its memory with the",
        'index loaded. "Same ids" counts the queries for which FAISS finds the same items, items',
        *(f"aside that score within {TIE:g} of the last place.", ""),
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:.1f} before the run,",
        *(f"{machine['date']}; {versions}. The command:", ""),
        *("```", format_command(settings, results), "```"),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
