"""A large collection from index to served folder: time, memory, size, and what 10^9 items take.

    python benchmarks/large_export.py             # measures, writes the JSON, prints the tables
    python benchmarks/large_export.py --table     # prints the tables of the JSON

Codes of 8 bytes and int64 ids, made at random. Each stage runs in a process of its own, so that
its peak memory is the stage's. The same stages with few items tell what does not depend on the
number of items: the rest, divided by that number, gives the bytes per item of the formula
`memory = base + bytes per item * items`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from environment import describe_machine

import tfpqn
from tfpqn.export import Searcher, save_searcher
from tfpqn.export.loading.loaders import SavedModelLoader, ServedModel, SessionLoader
from tfpqn.index import CodeIndex, network_layout

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "large_export.json"
DEFAULTS = {"items": 10_000_000, "base_items": 1000}
NAME = "images"
IMAGE_SHAPE = (32, 32, 3)
EMBEDDING_DIM = 128
CODE_LENGTH = 8
NUM_CODEWORDS = 256
# Ids beyond int32.
FIRST_ID = 2**32
LIBRARIES = ("tensorflow", "keras", "numpy")
# So many items are told by the formula.
FORETOLD = (10**8, 10**9)
SEARCHES = 5
LIMITS = (
    "Positions are int32: fewer than 2^31 items in one export. The SavedModel's variables lie in "
    "one file. A server holds two versions while one follows the other: twice the memory served."
)


def main() -> None:
    arguments = parse_arguments()
    if arguments.stage:
        print(json.dumps(STAGES[arguments.stage](arguments.work_dir, arguments.items)))
        return
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_tables(json.loads(arguments.output.read_text()))))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in DEFAULTS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    parser.add_argument("--work-dir", type=Path, help="where index and model go; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the tables of the JSON")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine(LIBRARIES)
    base = run_stages(arguments.base_items, arguments.work_dir)
    large = run_stages(arguments.items, arguments.work_dir)
    rows = [{**foretell(own, base[name], arguments), "stage": name} for name, own in large.items()]
    return {
        "command": f"python benchmarks/large_export.py --items {arguments.items}",
        "settings": {name: getattr(arguments, name) for name in DEFAULTS},
        "machine": machine,
        "results": rows,
        "base": base,
    }


def run_stages(num_items: int, work_folder: Path | None) -> dict[str, Any]:
    """The figures of all stages by name."""
    with tempfile.TemporaryDirectory(dir=work_folder) as folder:
        return {name: run_stage(name, folder, num_items) for name in STAGES}


def run_stage(name: str, folder: str, num_items: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--stage", name, "--work-dir", folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run(
        [*command, "--items", str(num_items)], env=environment, check=True, stdout=subprocess.PIPE
    )
    return json.loads(finished.stdout.splitlines()[-1])


def foretell(
    own: dict[str, Any], base: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """A stage's figures with bytes per item, and what they come to for more items."""
    more = arguments.items - arguments.base_items
    per_item = {
        name: 2**20 * (own[name] - base[name]) / more
        for name in ("peak_mb", "resident_mb", "size_mb")
        if name in own
    }
    foretold = {
        name: [base[name] / 1024 + value * items / 2**30 for items in FORETOLD]
        for name, value in per_item.items()
    }
    return {**own, "bytes_per_item": per_item, "foretold_gb": foretold}


# Stages


def build_network() -> tfpqn.models.ProductQuantizationNetwork:
    """A network with random codebooks, always the same: what a search costs needs no training."""
    keras.utils.set_random_seed(0)
    quantizer = tfpqn.layers.ProductQuantization(CODE_LENGTH, NUM_CODEWORDS)
    backbone = tfpqn.models.build_backbone("conv3", IMAGE_SHAPE)
    return tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, EMBEDDING_DIM)


def build_index(folder: Path, num_items: int) -> dict[str, Any]:
    """Random codes become an index on disk."""
    layout = network_layout(build_network())
    rng = np.random.default_rng(1)
    codes = rng.integers(NUM_CODEWORDS, size=(num_items, CODE_LENGTH), dtype=np.uint8)
    ids = np.arange(num_items) + FIRST_ID
    seconds, _ = timed(lambda: CodeIndex(layout, codes, ids).save(folder / "index"))
    return {"seconds": seconds, "size_mb": folder_size(folder / "index"), **read_memory()}


def export(folder: Path, num_items: int) -> dict[str, Any]:
    """The index becomes a version folder."""
    network = build_network()
    load_seconds, index = timed(lambda: CodeIndex.load(folder / "index"))
    path = folder / NAME / "1"
    seconds, _ = timed(lambda: save_searcher(Searcher(network, index, top_k=10), path))
    return {
        "seconds": seconds,
        "load_index_seconds": load_seconds,
        "size_mb": folder_size(path),
        **read_memory(),
    }


def load_saved_model(folder: Path, num_items: int) -> dict[str, Any]:
    """`tf.saved_model.load`."""
    return load_and_search(SavedModelLoader, folder)


def load_session(folder: Path, num_items: int) -> dict[str, Any]:
    """A session of TensorFlow 1, as a server has."""
    return load_and_search(SessionLoader, folder)


def load_and_search(loader: Callable[[Path], ServedModel], folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    queries = rng.normal(size=(1 + SEARCHES, 1, EMBEDDING_DIM)).astype(np.float32)
    seconds, model = timed(lambda: loader(folder / NAME / "1"))
    with model:
        first, *rest = (
            timed(lambda query=query: model.run("search_by_embedding", {"embeddings": query}))[0]
            for query in queries
        )
        return {
            "seconds": seconds,
            "first_search_seconds": first,
            "search_seconds": statistics.median(rest),
            **read_memory(),
        }


STAGES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "index": build_index,
    "export": export,
    "load, SavedModel": load_saved_model,
    "load, session": load_session,
}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def read_memory() -> dict[str, float]:
    """Peak and present memory of this process in MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident = int(status["VmRSS"].split()[0])
    # The kernel's two counters are a little apart.
    peak = max(resident, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"peak_mb": peak / 1024, "resident_mb": resident / 1024}


def folder_size(folder: Path) -> float:
    """MB of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


# Tables


def format_tables(content: dict[str, Any]) -> list[str]:
    """What was measured, and what the formula tells, as lines of Markdown."""
    items = content["settings"]["items"]
    lines = [
        f"{items:,} items:",
        "",
        "| stage | seconds | peak memory MB | memory afterwards MB | size on disk MB | "
        "first search s | search s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in content["results"]:
        lines.append(
            f"| {row['stage']} | {row['seconds']:.1f} | {row['peak_mb']:,.0f} "
            f"| {row['resident_mb']:,.0f} | {show(row.get('size_mb'), ',.0f')} "
            f"| {show(row.get('first_search_seconds'), '.2f')} "
            f"| {show(row.get('search_seconds'), '.3f')} |"
        )
    counts = " | ".join(f"{count:,} items, GB" for count in FORETOLD)
    lines += [
        "",
        "By `base + bytes per item * items`:",
        "",
        f"| | base GB | bytes per item | {counts} |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in content["results"]:
        for name, title in FORETOLD_NAMES.items():
            if name in row["bytes_per_item"] and (name, row["stage"]) not in LEFT_OUT:
                gigabytes = " | ".join(f"{value:,.1f}" for value in row["foretold_gb"][name])
                base = content["base"][row["stage"]][name] / 1024
                lines.append(
                    f"| {row['stage']}: {title} | {base:.2f} "
                    f"| {row['bytes_per_item'][name]:.1f} | {gigabytes} |"
                )
    return [*lines, "", LIMITS]


FORETOLD_NAMES = {"peak_mb": "peak memory", "resident_mb": "memory served", "size_mb": "on disk"}
# Memory that is left when the work is done says nothing.
LEFT_OUT = {("resident_mb", "index"), ("resident_mb", "export")}


def show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    main()
