"""How long new and removed items take until a search shows it, beside a large base.

    python benchmarks/ingest.py             # measures, writes the JSON, prints the table
    python benchmarks/ingest.py --table     # prints the table of the JSON

Random vectors of 32 floats in codes of 8 bytes. `tfpqn ingest` watches a file of vectors and the
index, every second. One `tfpqn serve` holds the base, another the delta, and look for versions
every second, too. The clock runs from the moment at which the file is replaced, or `tfpqn remove`
has ended, until a client's search shows it; the client asks ten times a second.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_machine
from large_export import BITS, DIM, TRAINING_ITEMS, run_command, write_vectors
from shards import NAME, start_server, time_each

from tfpqn.export.client import ShardedSearchClient

OUTPUT = Path(__file__).parent / "results" / "ingest.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "pyarrow")
FIRST_ID, FEW, MANY = 2**32, 100, 40_000
ROUNDS, SEARCHES, NUM_HIDDEN, NEW_BASE_AFTER = 4, 40, 200, 45_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000, help="of the base")
    parser.add_argument("--work-dir", type=Path, help="where files go; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the table of the JSON")
    arguments = parser.parse_args()
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_table(json.loads(arguments.output.read_text()))))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine(LIBRARIES)
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        collection = Collection(Path(folder), arguments.items)
        results = run_stages(collection)
    return {
        "command": f"python benchmarks/ingest.py --items {arguments.items}",
        "items": arguments.items,
        "machine": machine,
        "load_after": os.getloadavg()[0],
        "results": results,
    }


class Collection:
    """An index, its first base and delta, and a file into which more vectors come."""

    def __init__(self, folder: Path, num_items: int) -> None:
        self.model, self.index = folder / NAME, folder / "index"
        self.arriving, self._run = folder / "arriving.npz", folder / "run"
        training = write_vectors(folder / "training.npy", TRAINING_ITEMS)
        options = ["--similarity", "cosine", "--bits", BITS, "--run-dir", self._run]
        run_command(["train", "--model", "pqn", "--vectors", training, *options])
        vectors = write_vectors(folder / "all.npy", num_items)
        run_command(["index", "--run-dir", self._run, "--output", self.index, "--vectors", vectors])
        self.vectors = np.zeros((0, DIM), np.float32)
        run_command(self._ingest())

    def _ingest(self) -> list[Any]:
        options = ["--run-dir", self._run, "--index", self.index, "--output", self.model]
        return ["ingest", *options, "--new-base-after", NEW_BASE_AFTER]

    @contextlib.contextmanager
    def watching(self) -> Iterator[subprocess.Popen[bytes]]:
        self.arrive(1)
        command = [*self._ingest(), "--vectors", self.arriving, "--watch", 1]
        process = subprocess.Popen([sys.executable, "-m", "tfpqn", *map(str, command)])
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def arrive(self, num_items: int) -> tuple[int, np.ndarray]:
        """Put so many more vectors into the file; id and vector of the last one."""
        more = np.random.default_rng(len(self.vectors)).standard_normal((num_items, DIM))
        self.vectors = np.concatenate([self.vectors, more.astype(np.float32)])
        ids = np.arange(len(self.vectors)) + FIRST_ID
        partial = self.arriving.with_name("partial.npz")
        np.savez(partial, vectors=self.vectors, id=ids)
        os.replace(partial, self.arriving)
        return int(ids[-1]), self.vectors[-1:]

    def remove(self, ids: np.ndarray) -> None:
        run_command(["remove", "--index", self.index, *ids.tolist()])


def run_stages(collection: Collection) -> dict[str, Any]:
    queries = np.random.default_rng(5).standard_normal((SEARCHES, DIM)).astype(np.float32)
    with contextlib.ExitStack() as stack:
        base = collection.model.with_name(f"{NAME}-shard-0-of-1")
        delta = collection.model.with_name(f"{NAME}-delta")
        servers = [
            stack.enter_context(start_server(base)),
            stack.enter_context(start_server(delta, delta.name)),
        ]
        watching = stack.enter_context(collection.watching())
        workers = {"ingest": watching.pid, "the delta's server": servers[1].process.pid}
        client = stack.enter_context(
            ShardedSearchClient([servers[0].address], NAME, delta=servers[1].address, timeout=60)
        )
        return {
            "until_the_first_is_found": until(client, *collection.arrive(1)),
            **add_few(client, collection, workers, ""),
            "query_ms": time_queries(client, queries),
            f"add {MANY:,}": until(client, *collection.arrive(MANY)),
            **add_few(client, collection, workers, f", {MANY:,} items in the delta"),
            f"query_ms, {MANY:,} items in the delta": time_queries(client, queries),
            f"remove {NUM_HIDDEN}": until_removed(client, collection, queries),
            f"query_ms, {NUM_HIDDEN} hidden as well": time_queries(client, queries),
            **exchange_base(client, collection),
        }


def add_few(
    client: Any, collection: Collection, workers: dict[str, int], where: str
) -> dict[str, list[float]]:
    """Seconds until a few new items are found, and processor seconds that this takes."""
    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        before = {name: processor_seconds(pid) for name, pid in workers.items()}
        seconds = until(client, *collection.arrive(FEW))
        figures.setdefault(f"add {FEW}{where}", []).append(seconds)
        for name, pid in workers.items():
            spent = processor_seconds(pid) - before[name]
            figures.setdefault(f"processor seconds of {name}{where}", []).append(spent)
    return figures


def processor_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(client: Any, id_: int, vector: np.ndarray) -> float:
    """Seconds until a search with its vector finds an item."""
    started = time.perf_counter()
    while id_ not in client.search(vector).ids:
        time.sleep(0.1)
    return time.perf_counter() - started


def until_removed(client: Any, collection: Collection, queries: np.ndarray) -> float:
    found = np.unique(np.concatenate([client.search(query[None]).ids[0] for query in queries]))
    gone = found[found < FIRST_ID][:NUM_HIDDEN]
    collection.remove(gone)
    started = time.perf_counter()
    while np.isin(client.search(queries).ids, gone).any():
        time.sleep(0.1)
    return time.perf_counter() - started


def time_queries(client: Any, queries: np.ndarray) -> float:
    time_each(client, queries[:2])
    return float(np.median(time_each(client, queries)[1])) * 1000


def exchange_base(client: Any, collection: Collection) -> dict[str, Any]:
    """Seconds until searches ask the next base, and what new items take meanwhile."""
    started = time.perf_counter()
    seconds = [until(client, *collection.arrive(NEW_BASE_AFTER - MANY))]
    _, vector = collection.arrive(1)
    while client.search(vector).version == 1:
        seconds.append(until(client, *collection.arrive(FEW)))
    return {
        "until_the_next_base": time.perf_counter() - started,
        f"add {FEW} meanwhile": seconds[1:],
    }


def format_table(content: dict[str, Any]) -> list[str]:
    machine = content["machine"]
    lines = [
        f"{content['items']:,} items, {machine['cores']} cores, load "
        f"{machine['load_before']:.1f} before and {content['load_after']:.1f} after",
        "",
        "| | median | largest |",
        "|---|---:|---:|",
    ]
    for name, value in content["results"].items():
        values = np.atleast_1d(value)
        if len(values):
            lines.append(f"| {name} | {np.median(values):.1f} | {values.max():.1f} |")
    return lines


if __name__ == "__main__":
    main()
