"""A collection of vectors from file to server: time, memory and size against the number of items.

    python benchmarks/large_export.py             # measures, writes the JSON, prints the tables
    python benchmarks/large_export.py --table     # prints the tables of the JSON

Random vectors of 32 floats become codes of 8 bytes with int64 ids, by the commands that users give.
Each command is a process of its own, so that its peak memory is that stage's. Two measures of it:
all that is resident, and what is anonymous, which leaves out the mapped pages of the .npy file
that the kernel takes back when it needs them. Smallest and largest collection give the line
`base + per item * items`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_machine
from shards import NAME, start_server, time_each

from tfpqn.export.client import SearchClient

OUTPUT = Path(__file__).parent / "results" / "large_export.json"
SIZES = [100_000, 1_000_000, 10_000_000]
LIBRARIES = ("tensorflow", "keras", "numpy", "pyarrow")
DIM, BITS, TRAINING_ITEMS = 32, 64, 20_000
FEW = 1000
NUM_SHARDS = 4
SEARCHES, BATCH, BATCHES = 30, 32, 3
# Ids beyond int32, and those of a second addition.
FIRST_ID, SECOND_ID = 2**32, 2**33
ROWS_AT_ONCE = 2**18
POLL_SECONDS = 0.02
MEASURES = ("seconds", "peak_mb", "anonymous_mb", "size_mb", "p50_ms", "batch_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="two or more, rising")
    parser.add_argument("--work-dir", type=Path, help="where files go; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the tables of the JSON")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_tables(json.loads(arguments.output.read_text()))))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine, rows = describe_machine(LIBRARIES), []
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        run = Path(folder, "run")
        vectors = write_vectors(Path(folder, "training.npy"), TRAINING_ITEMS)
        options = ["--similarity", "dot", "--bits", BITS, "--run-dir", run]
        run_command(["train", "--vectors", vectors, *options])
        for num_items in arguments.sizes:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                for row in run_stages(Path(own), run, num_items):
                    print(json.dumps(row), file=sys.stderr)
                    rows.append({"items": num_items, **row})
    sizes = " ".join(map(str, arguments.sizes))
    return {
        "command": f"python benchmarks/large_export.py --sizes {sizes}",
        "machine": machine,
        "load_after": os.getloadavg()[0],
        "results": rows,
        "lines": fit_lines(rows),
    }


def run_stages(folder: Path, run: Path, num_items: int) -> list[dict[str, Any]]:
    """The figures of all stages with one collection."""
    index, model = folder / "index", folder / NAME / "1"
    code = ["index", "--run-dir", run, "--output", index, "--batch-size", 4096]
    export = ["export", "--run-dir", run, "--index", index, "--output", model]
    vectors = write_vectors(folder / "all.npy", num_items)
    few = write_additions(folder / "few.npz", FEW, FIRST_ID)
    tenth = write_additions(folder / "tenth.npz", num_items // 10, SECOND_ID)
    shards = [f"{NAME}-shard-{n}-of-{NUM_SHARDS}" for n in range(NUM_SHARDS)]
    return [
        run_stage("code", [*code, "--vectors", vectors], index),
        run_stage(f"add {FEW:,} items", [*code, "--add", "--vectors", few], index),
        run_stage("export", export, model),
        run_stage(
            f"export, {NUM_SHARDS} shards",
            [*export, "--shards", NUM_SHARDS],
            *(folder / shard for shard in shards),
        ),
        {"stage": "serve", **serve(folder / NAME)},
        run_stage("add a tenth", [*code, "--add", "--vectors", tenth], index),
    ]


def run_stage(name: str, command: list[Any], *written: Path) -> dict[str, Any]:
    figures = run_command(command)
    return {"stage": name, **figures, "size_mb": sum(map(folder_size, written))}


def run_command(command: list[Any]) -> dict[str, float]:
    """Seconds and peak memory of one `tfpqn` command."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tfpqn", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    anonymous = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, KeyError):  # It may have ended.
            anonymous = max(anonymous, read_memory(process.pid)["RssAnon"])
            peak = read_memory(process.pid)["VmHWM"]
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise RuntimeError(f"The command must end well. Received: {process.args}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak, "anonymous_mb": anonymous}


def serve(model: Path) -> dict[str, float]:
    """A server's time to load, its memory, and its times of a query and of a batch's query."""
    queries = np.random.default_rng(2).normal(size=(2 + SEARCHES, DIM)).astype(np.float32)
    started = time.perf_counter()
    with start_server(model) as server, SearchClient(server.address, NAME, timeout=120) as client:
        seconds = time.perf_counter() - started
        time_each(client, queries[:2])
        _, singles = time_each(client, queries[2:])
        batch = np.resize(queries, (BATCHES, BATCH, DIM))
        batches = [timed_search(client, rows) for rows in batch]
        memory = read_memory(server.process.pid)
    return {
        "seconds": seconds,
        "peak_mb": memory["VmHWM"],
        "anonymous_mb": memory["RssAnon"],
        "p50_ms": float(np.median(singles)) * 1000,
        "batch_ms": float(np.median(batches)) * 1000 / BATCH,
    }


def timed_search(client: SearchClient, queries: np.ndarray) -> float:
    started = time.perf_counter()
    client.search(queries)
    return time.perf_counter() - started


def read_memory(process_id: int) -> dict[str, float]:
    """MB by the kernel's names: VmHWM is the peak of all resident memory, RssAnon is present."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}


def folder_size(folder: Path) -> float:
    """MB of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def write_vectors(path: Path, num_items: int) -> Path:
    rng = np.random.default_rng(num_items)
    shape = (num_items, DIM)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, num_items, ROWS_AT_ONCE):
        rows = vectors[start : start + ROWS_AT_ONCE]
        rows[:] = rng.standard_normal(rows.shape, np.float32)
    return path


def write_additions(path: Path, num_items: int, first_id: int) -> Path:
    vectors = np.random.default_rng(1).standard_normal((num_items, DIM), np.float32)
    np.savez(path, vectors=vectors, id=np.arange(num_items) + first_id)
    return path


def fit_lines(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Per stage and measure: base, and how much more a million items take."""
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == name]
        first, last = own[0], own[-1]
        for measure in MEASURES:
            if measure in first:
                more = (last["items"] - first["items"]) / 1e6
                slope = (last[measure] - first[measure]) / more
                base = first[measure] - slope * first["items"] / 1e6
                lines.setdefault(name, {})[measure] = {"base": base, "per_million": slope}
    return lines


def format_tables(content: dict[str, Any]) -> list[str]:
    """What was measured, and the lines, as Markdown."""
    machine, head = content["machine"], "|".join(MEASURES)
    lines = [
        f"{machine['cores']} cores, load {machine['load_before']:.1f} before and "
        f"{content['load_after']:.1f} after",
        "",
        f"| stage | items |{head}|",
        "|---|---:|" + "---:|" * len(MEASURES),
    ]
    for row in sorted(content["results"], key=lambda row: row["stage"]):
        values = "|".join(f"{row[name]:,.1f}" if name in row else "" for name in MEASURES)
        lines.append(f"| {row['stage']} | {row['items']:,} |{values}|")
    lines += ["", f"| stage: base + a million items |{head}|", "|---|" + "---:|" * len(MEASURES)]
    for stage, fitted in content["lines"].items():
        values = "|".join(
            "{base:,.1f} + {per_million:,.2f}".format(**fitted[name]) if name in fitted else ""
            for name in MEASURES
        )
        lines.append(f"| {stage} |{values}|")
    return lines


if __name__ == "__main__":
    main()
