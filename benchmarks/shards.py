"""Shards on local servers against one index on one: the same answers, latency, hedged requests.

    python benchmarks/shards.py             # measures, writes the JSON, prints the table
    python benchmarks/shards.py --table     # prints the table of the JSON

The servers are processes of `tfpqn serve` on this machine. They share its cores, so the figures
tell what asking several servers costs, and not what more machines would gain. Each code stands
twice in the collection, so that items of different shards tie.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environment import describe_machine

from tfpqn.export.client import SearchClient, ServingError, ShardedSearchClient

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "shards.json"
NAME, DIM, NUM_SUBSPACES, TOP_K = "vectors", 64, 8, 10
FIRST_ID = 2**32
BATCH = 50
LIBRARIES = ("tensorflow", "keras", "numpy", "grpcio")
TIMEOUT = 120.0
# The slow server of a shard: every so many requests it stalls for so many seconds.
STALL_EVERY, STALL_SECONDS = 10, 2.0


def main() -> None:
    arguments = parse_arguments()
    if arguments.stage == "slow":
        asyncio.run(serve_slowly(str(arguments.work_dir)))
        return
    if arguments.stage:
        print(json.dumps(STAGES[arguments.stage](arguments)))
        return
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_table(json.loads(arguments.output.read_text()))))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=4_000_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--queries", type=int, default=1000, help="compared in batches")
    parser.add_argument("--timed", type=int, default=300, help="queries timed one by one")
    parser.add_argument("--work-dir", type=Path, help="where index and models go; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the table of the JSON")
    parser.add_argument("--stage", choices=[*STAGES, "slow"], help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine(LIBRARIES)
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        arguments.work_dir = Path(folder)
        exports = {stage: run_stage(stage, arguments) for stage in STAGES}
        queries = np.random.default_rng(1).normal(size=(arguments.queries, DIM))
        queries = queries.astype(np.float32)
        with contextlib.ExitStack() as stack:
            (server,) = start_servers(stack, [arguments.work_dir / NAME])
            client = stack.enter_context(SearchClient(server.address, NAME, timeout=TIMEOUT))
            whole = ask(client, queries, arguments.timed)
        with contextlib.ExitStack() as stack:
            names = [f"{NAME}-shard-{n}-of-{arguments.shards}" for n in range(arguments.shards)]
            servers = start_servers(stack, [arguments.work_dir / name for name in names])
            addresses = [server.address for server in servers]
            client = stack.enter_context(ShardedSearchClient(addresses, NAME, timeout=TIMEOUT))
            parts = ask(client, queries, arguments.timed)
            hedging = measure_hedging(stack, addresses, queries[: arguments.timed], parts)
            killed = kill_one(servers, queries[:BATCH])
    return {
        "machine": machine,
        "load_after": os.getloadavg()[0],
        "settings": {
            name: getattr(arguments, name) for name in ("items", "shards", "queries", "timed")
        },
        "exports": exports,
        "equal": {
            name: bool(np.array_equal(whole[name], parts[name])) for name in ("ids", "scores")
        },
        "rows_with_ties": count_ties(whole["scores"]),
        "one_index": describe_times(whole["seconds"]),
        "shards": describe_times(parts["seconds"]),
        "slow_server": {"every": STALL_EVERY, "seconds": STALL_SECONDS},
        **hedging,
        "killed": killed,
    }


def run_stage(stage: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A stage in a process of its own, so that its peak memory is the stage's."""
    command = [sys.executable, __file__, "--stage", stage, "--work-dir", arguments.work_dir]
    command += ["--items", arguments.items, "--shards", arguments.shards]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def with_figures(started: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - started, "peak_mb": peak / 1024}


def make_network() -> Any:
    import keras

    import tfpqn

    keras.utils.set_random_seed(0)
    quantizer = tfpqn.layers.ProductQuantization(NUM_SUBSPACES, 256, similarity="dot")
    network = tfpqn.models.ProductQuantizationNetwork(None, quantizer, None)
    network.build((None, DIM))
    return network


def write_index(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfpqn.index import CodeIndexWriter, network_layout

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (arguments.items // 2, NUM_SUBSPACES), dtype=np.uint8)
    codes = rng.permutation(np.concatenate([codes, codes]))
    ids = np.arange(len(codes)) + FIRST_ID
    started = time.perf_counter()
    layout = network_layout(make_network())
    with CodeIndexWriter(arguments.work_dir / "index", layout) as writer:
        writer.append(codes, ids)
    return with_figures(started)


def export_whole(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfpqn.export import Searcher, save_searcher
    from tfpqn.index import CodeIndex

    network, started = make_network(), time.perf_counter()
    index = CodeIndex.load(arguments.work_dir / "index")
    save_searcher(Searcher(network, index, top_k=TOP_K), arguments.work_dir / NAME / "1")
    return with_figures(started)


def export_shards(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfpqn.export import save_shards

    network, started = make_network(), time.perf_counter()
    folder = arguments.work_dir
    save_shards(network, folder / "index", folder / NAME / "1", arguments.shards, top_k=TOP_K)
    return with_figures(started)


STAGES = {"index": write_index, "one model": export_whole, "shards": export_shards}


class Server(NamedTuple):
    """A process of `tfpqn serve`, and where it listens."""

    address: str
    process: Any


def start_servers(stack: contextlib.ExitStack, folders: list[Path]) -> list[Server]:
    """A server for each model's folder."""
    return [stack.enter_context(start_server(folder)) for folder in folders]


@contextlib.contextmanager
def start_server(folder: Path, name: str = NAME) -> Iterator[Server]:
    command = [sys.executable, "-m", "tfpqn", "serve", "--model-base-path", str(folder)]
    command += ["--model-name", name, "--port", "0", "--rest-api-port", "-1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"gRPC on (\S+)", line)
        if not found:
            raise RuntimeError(f"The server must say where it listens. Received: {line!r}")
        yield Server(found[1], process)
    finally:
        process.terminate()
        process.wait()


def ask(client: Any, queries: np.ndarray, num_timed: int) -> dict[str, Any]:
    """Answers to all queries in batches and to the first ones one by one, with times of these."""
    starts = range(0, len(queries), BATCH)
    found = [client.search(queries[start : start + BATCH]) for start in starts]
    singles, seconds = time_each(client, queries[:num_timed])
    results = [*found, *singles]
    return {
        "ids": np.concatenate([result.ids for result in results]),
        "scores": np.concatenate([result.scores for result in results]),
        "seconds": seconds,
    }


def time_each(client: Any, queries: np.ndarray) -> tuple[list[Any], list[float]]:
    results, seconds = [], []
    for query in queries[:, np.newaxis]:
        started = time.perf_counter()
        results.append(client.search(query))
        seconds.append(time.perf_counter() - started)
    return results, seconds


def measure_hedging(
    stack: contextlib.ExitStack, addresses: list[str], queries: np.ndarray, parts: dict[str, Any]
) -> dict[str, Any]:
    """Times with a server of the first shard that stalls now and then, and a sound one beside it.

    The hedge waits as long as nine of ten requests took without the slow server.
    """
    hedge_after = float(np.percentile(parts["seconds"], 90))
    slow = stack.enter_context(start_slow_server(addresses[0]))
    shards = [[slow, addresses[0]], *addresses[1:]]
    figures: dict[str, Any] = {"hedge_after": hedge_after}
    for name, seconds in (("without_hedging", None), ("with_hedging", hedge_after)):
        client = ShardedSearchClient(shards, NAME, timeout=TIMEOUT, hedge_after=seconds)
        with client:
            time_each(client, queries[:2])
            figures[name] = describe_times(time_each(client, queries)[1])
    return figures


def kill_one(servers: list[Server], queries: np.ndarray) -> dict[str, Any]:
    """What clients of both policies say when the server of the last shard is killed."""
    addresses = [server.address for server in servers]
    strict = ShardedSearchClient(addresses, NAME)
    lenient = ShardedSearchClient(addresses, NAME, allow_partial=True)
    with strict, lenient:
        for client in (strict, lenient):
            client.search(queries)
        servers[-1].process.kill()
        servers[-1].process.wait()
        found = lenient.search(queries)
        try:
            refusal = f"an answer, {strict.search(queries)}"
        except ServingError as error:
            refusal = error.code
    return {
        "shard": len(servers) - 1,
        "by_default": refusal,
        "allow_partial": {
            "missing_shards": list(found.missing_shards),
            "items_found": int(found.num_found.sum()),
        },
    }


@contextlib.contextmanager
def start_slow_server(address: str) -> Iterator[str]:
    """The address of a process that hands every request on, and stalls before some."""
    command = [sys.executable, __file__, "--stage", "slow", "--work-dir", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield (process.stdout.readline() if process.stdout else "").strip()
    finally:
        process.terminate()
        process.wait()


async def serve_slowly(address: str) -> None:
    import grpc.aio

    channel = grpc.aio.insecure_channel(address)
    count = 0

    async def hand_on(method: str, request: bytes) -> bytes:
        nonlocal count
        if method.endswith("/Predict"):
            count += 1
            if count % STALL_EVERY == 0:
                await asyncio.sleep(STALL_SECONDS)
        return bytes(await channel.unary_unary(method)(request))

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            async def call(request: bytes, context: Any) -> bytes:
                return await hand_on(details.method, request)

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def describe_times(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
    return {"p50_ms": p50 * 1000, "p95_ms": p95 * 1000, "p99_ms": p99 * 1000}


def count_ties(scores: np.ndarray) -> int:
    """Rows in which two items have the same score."""
    return int(np.sum((np.diff(scores, axis=1) == 0).any(axis=1)))


def format_table(content: dict[str, Any]) -> list[str]:
    settings, machine = content["settings"], content["machine"]
    num_compared = settings["queries"] + settings["timed"]
    lines = [
        f"{settings['items']:,} items in {settings['shards']} shards; {machine['cores']} cores, "
        f"load {machine['load_before']:.1f} before and {content['load_after']:.1f} after",
        f"{num_compared:,} queries: equal {content['equal']}, "
        f"{content['rows_with_ties']} of them with ties",
        *(
            f"export of {name}: {row['seconds']:.1f} s, peak {row['peak_mb']:,.0f} MB"
            for name, row in content["exports"].items()
        ),
        "",
        "| one query at a time | p50 ms | p95 ms | p99 ms |",
        "|---|---:|---:|---:|",
    ]
    for name in ("one_index", "shards", "without_hedging", "with_hedging"):
        times = (f"{content[name][key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(times)} |")
    lines += ["", f"a shard's server killed: {content['killed']}"]
    hedge_after = content["hedge_after"] * 1000
    return [*lines, "", f"hedge_after {hedge_after:.0f} ms; slow server {content['slow_server']}"]


if __name__ == "__main__":
    main()
