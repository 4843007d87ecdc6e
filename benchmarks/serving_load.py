"""`tfpqn serve` under load: latency, throughput and errors, with and without batching.

    python benchmarks/serving_load.py             # measures, writes the JSON, prints the table
    python benchmarks/serving_load.py --table     # prints the table of the JSON

A model of 100,000 items is served in a process of its own, and concurrent clients, each with its
own connection, ask as fast as they are answered: one row a request, through gRPC and REST. Clients
and server share the machine. Every answer is compared afterwards with that of the exported folder
loaded in Python. Exit status 1 if a request failed or an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import numpy as np
import serving_tools as tools
from machine import describe_machine

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "serving_load.json"
DEFAULTS = {"items": 100_000, "clients": 32, "seconds": 60.0, "queries": 64}
SIGNATURES = ("search", "search_by_embedding")
# Before it counts: connections are made, and threads are started.
WARM_UP_SECONDS = 1.0
SHOWN_ERRORS = 5


class Reply(NamedTuple):
    """What came back for one request; `data` or `error`."""

    query: tools.Query
    seconds: float
    data: bytes
    error: str


Ask = Callable[[tools.Query], Awaitable[tuple[bytes, str]]]


def main() -> None:
    arguments = parse_arguments()
    if arguments.table:
        print("\n".join(format_table(json.loads(arguments.output.read_text()))))
        return
    content = measure(arguments)
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(format_table(content)))
    failures = [row for row in content["results"] if row["errors"] or row["wrong_answers"]]
    if failures:
        sys.exit(f"No request may fail. Received: {failures}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument(
        "--protocols", nargs="+", choices=["grpc", "rest"], default=["grpc", "rest"]
    )
    parser.add_argument("--work-dir", type=Path, help="keeps the model for further runs")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the table of the JSON")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine(tools.LIBRARIES)
    with tools.work_folder(arguments.work_dir) as folder:
        base_path = folder / f"items-{arguments.items}" / tools.NAME
        path = tools.make_version(base_path, tools.build_network(), arguments.items, 1)
        queries = tools.make_queries({1: path}, arguments.queries)
        batching_file = path / "batching_params.pbtxt"
        batching = batching_file.read_text()
        results = []
        for file in (None, batching_file):
            with tools.Server(base_path, file, folder / "server.log") as server:
                for protocol in arguments.protocols:
                    for signature in SIGNATURES:
                        own = [query for query in queries if query.signature == signature]
                        cell = run_cell(server, protocol, own, arguments)
                        results.append({"signature": signature, "batching": bool(file), **cell})
    settings = {name: getattr(arguments, name) for name in DEFAULTS}
    options = " ".join(f"--{name} {value}" for name, value in settings.items())
    return {
        "command": f"python benchmarks/serving_load.py {options}",
        "settings": settings,
        "machine": machine,
        "batching_parameters": " ".join(batching.split()),
        "results": results,
    }


def run_cell(
    server: tools.Server, protocol: str, queries: list[tools.Query], arguments: argparse.Namespace
) -> dict[str, Any]:
    """All figures of one protocol and signature."""
    drive = drive_grpc if protocol == "grpc" else drive_rest
    asyncio.run(drive(server, queries, arguments.clients, WARM_UP_SECONDS))
    start, used = time.perf_counter(), time.process_time()
    replies = asyncio.run(drive(server, queries, arguments.clients, arguments.seconds))
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    read = tools.read_grpc_answer if protocol == "grpc" else tools.read_rest_answer
    errors = [reply.error for reply in replies if reply.error]
    answered = [reply for reply in replies if not reply.error]
    wrong = sum(tools.find_version(read(r.data), r.query) is None for r in answered)
    median, late = np.quantile([reply.seconds for reply in answered] or [np.nan], (0.5, 0.99))
    return {
        "protocol": protocol,
        "requests": len(replies),
        "errors": len(errors),
        "first_errors": errors[:SHOWN_ERRORS],
        "wrong_answers": wrong,
        "p50_ms": 1000 * float(median),
        "p99_ms": 1000 * float(late),
        "requests_per_second": len(answered) / elapsed,
        # Of one processor: what the clients take from the server.
        "client_cpu_share": used / elapsed,
        "server_memory_mb": server.memory_mb(),
    }


async def drive_grpc(
    server: tools.Server, queries: list[tools.Query], num_clients: int, seconds: float
) -> list[Reply]:
    async def client(number: int, end: float) -> list[Reply]:
        # Channels of one process would share a connection otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(server.address, options) as channel:
            call = channel.unary_unary(tools.PREDICT)

            async def ask(query: tools.Query) -> tuple[bytes, str]:
                try:
                    return await call(query.grpc_body, timeout=60), ""
                except grpc.aio.AioRpcError as error:
                    return b"", f"{error.code().name}: {error.details()}"

            return await ask_in_turn(ask, queries, number, end)

    return await run_clients(client, num_clients, seconds)


async def drive_rest(
    server: tools.Server, queries: list[tools.Query], num_clients: int, seconds: float
) -> list[Reply]:
    async def client(number: int, end: float) -> list[Reply]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)

        async def ask(query: tools.Query) -> tuple[bytes, str]:
            writer.write(tools.make_post(query.rest_body))
            status, data = await asyncio.wait_for(tools.read_response(reader), 60)
            return data, "" if status == 200 else f"{status}: {data[:200]!r}"

        try:
            return await ask_in_turn(ask, queries, number, end)
        finally:
            writer.close()

    return await run_clients(client, num_clients, seconds)


async def run_clients(
    client: Callable[[int, float], Awaitable[list[Reply]]], num_clients: int, seconds: float
) -> list[Reply]:
    end = time.perf_counter() + seconds
    replies = await asyncio.gather(*(client(number, end) for number in range(num_clients)))
    return [reply for own in replies for reply in own]


async def ask_in_turn(ask: Ask, queries: list[tools.Query], number: int, end: float) -> list[Reply]:
    """Ask one query after the other until the time is over; clients begin at different ones."""
    replies = []
    while time.perf_counter() < end:
        query = queries[(number * 7 + len(replies)) % len(queries)]
        start = time.perf_counter()
        try:
            data, error = await ask(query)
        except (*tools.BROKEN, ValueError) as broken:
            replies.append(Reply(query, 0.0, b"", repr(broken)))
            break
        replies.append(Reply(query, time.perf_counter() - start, data, error))
    return replies


def format_table(content: dict[str, Any]) -> list[str]:
    """The results as lines of Markdown."""
    lines = [
        "| protocol | signature | batching | p50 ms | p99 ms | requests/s | ratio | requests | "
        "errors | wrong |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rates = {
        (row["protocol"], row["signature"]): row["requests_per_second"]
        for row in content["results"]
        if not row["batching"]
    }
    for row in sorted(content["results"], key=lambda row: (row["protocol"], row["signature"])):
        ratio = row["requests_per_second"] / rates[row["protocol"], row["signature"]]
        lines.append(
            f"| {row['protocol']} | `{row['signature']}` | {'on' if row['batching'] else 'off'} "
            f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['requests_per_second']:,.0f} "
            f"| {ratio:.2f} | {row['requests']:,} | {row['errors']} | {row['wrong_answers']} |"
        )
    return lines


if __name__ == "__main__":
    main()
