"""Latency of a request to many shards: a simulation, and real local shards beside its small end.

    python benchmarks/fan_out.py             # measures, writes the JSON, prints the tables
    python benchmarks/fan_out.py --table     # prints the tables of the JSON

A request waits for its slowest shard. The simulation draws every server's time from the times of
one real server, all independent, and adds up nothing for merging. Hedging is that of
`ShardedSearchClient`: a shard without an answer after `hedge_after` seconds asks one more server,
and the first answer counts. The servers of a shard take turns in being the first.

The real shards are those of shards.py. Here they share the cores of this machine. So one server
is timed twice: alone, and while each of the others is asked as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environment import describe_machine
from shards import (
    DIM,
    LIBRARIES,
    NAME,
    STALL_EVERY,
    STALL_SECONDS,
    TIMEOUT,
    describe_times,
    run_stage,
    start_servers,
    start_slow_server,
    time_each,
)

from tfpqn.export.client import SearchClient, ShardedSearchClient

OUTPUT = Path(__file__).parent / "results" / "fan_out.json"
NUM_SHARDS = (1, 4, 10, 100)
REQUESTS = 20_000
# Assumed, not measured: how often each server stalls, by loading a new version for instance.
STALL_SHARE = 0.001
BROKEN_AMONG = 10


class Stalls(NamedTuple):
    """Servers that stall: the share of their requests, for how long, and which servers do."""

    share: float
    seconds: float
    everywhere: bool = True  # else only the first server of the first shard


def simulate(
    seconds: np.ndarray,
    num_shards: int,
    num_servers: int = 1,
    hedge_after: float | None = None,
    stalls: Stalls | None = None,
) -> dict[str, float]:
    """Percentiles of a request's time, and how many more requests hedging sends.

    Args:
        seconds: Times of one server, from which all are drawn, each by itself; or
            `[rounds, num_shards]`, of which whole rounds are drawn.
        num_shards: Servers that each request waits for.
        num_servers: Servers of a shard.
        hedge_after: Seconds after which one more server is asked; None never asks it.
        stalls: What makes servers late beside `seconds`.
    """
    rng = np.random.default_rng(0)
    turn = np.arange(REQUESTS)[:, np.newaxis] % num_servers

    def draw(server: np.ndarray) -> np.ndarray:
        size = (REQUESTS, num_shards) if seconds.ndim == 1 else REQUESTS
        times = rng.choice(seconds, size)
        if stalls is None:
            return times
        is_late = rng.random(times.shape) < stalls.share
        if not stalls.everywhere:
            is_late &= (server == 0) & (np.arange(num_shards) == 0)
        return times + stalls.seconds * is_late

    answers, hedged = draw(turn), 0.0
    if hedge_after is not None and num_servers > 1:
        hedged = float(np.mean(answers > hedge_after))
        answers = np.minimum(answers, hedge_after + draw((turn + 1) % num_servers))
    return {**describe_times(list(answers.max(axis=1))), "more_requests": hedged}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=4_000_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--timed", type=int, default=600, help="queries timed one by one")
    parser.add_argument("--work-dir", type=Path, help="where index and models go; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the tables of the JSON")
    arguments = parser.parse_args()
    if not arguments.table:
        machine = describe_machine(LIBRARIES)
        measured = measure(arguments)
        content = {
            "command": f"python benchmarks/fan_out.py --items {arguments.items}",
            "machine": machine,
            "load_after": os.getloadavg()[0],
            **measured,
            **compare(measured, arguments.shards),
            "scale": foretell(np.array(measured["seconds"]["one server alone"])),
        }
        arguments.output.write_text(json.dumps(content) + "\n")
    print("\n".join(format_tables(json.loads(arguments.output.read_text()))))


# Real shards


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times of one server, alone and beside the others, and of requests to all shards."""
    queries = np.random.default_rng(1).normal(size=(arguments.timed, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        arguments.work_dir = Path(folder)
        for stage in ("index", "shards"):
            run_stage(stage, arguments)
        with contextlib.ExitStack() as stack:
            names = [f"{NAME}-shard-{n}-of-{arguments.shards}" for n in range(arguments.shards)]
            servers = start_servers(stack, [arguments.work_dir / name for name in names])
            addresses = [server.address for server in servers]
            slow = stack.enter_context(start_slow_server(addresses[0]))
            times = time_servers(stack, addresses, queries)
            hedge_after = float(np.percentile(times["all shards"], 90))
            replicated: list[Any] = [[slow, addresses[0]], *addresses[1:]]
            times["a slow server"] = time_shards(replicated, queries, None)
            times["a slow server, hedged"] = time_shards(replicated, queries, hedge_after)
    rounded = {name: np.round(seconds, 6).tolist() for name, seconds in times.items()}
    return {"hedge_after": hedge_after, "seconds": rounded}


def time_servers(
    stack: contextlib.ExitStack, addresses: list[str], queries: np.ndarray
) -> dict[str, list[Any]]:
    clients = [
        stack.enter_context(SearchClient(address, NAME, timeout=TIMEOUT)) for address in addresses
    ]
    for client in clients:
        time_each(client, queries[:2])
    return {
        "one server alone": time_each(clients[0], queries)[1],
        "one server beside the others": time_beside(clients, queries),
        "all shards": time_shards(addresses, queries, None),
    }


def time_beside(clients: list[SearchClient], queries: np.ndarray) -> list[list[float]]:
    """Times of all servers for each query, which is sent to all of them at once."""

    def search(client: SearchClient, query: np.ndarray) -> float:
        started = time.perf_counter()
        client.search(query)
        return time.perf_counter() - started

    with ThreadPoolExecutor(len(clients)) as pool:
        return [
            list(pool.map(search, clients, [query] * len(clients)))
            for query in queries[:, np.newaxis]
        ]


def time_shards(shards: list[Any], queries: np.ndarray, hedge_after: float | None) -> list[float]:
    with ShardedSearchClient(shards, NAME, timeout=TIMEOUT, hedge_after=hedge_after) as client:
        time_each(client, queries[:2])
        return time_each(client, queries)[1]


# The simulation


def compare(measured: dict[str, Any], num_shards: int) -> dict[str, Any]:
    """The real requests, and the simulated ones from both timings of one server."""
    times, hedge_after = measured["seconds"], measured["hedge_after"]
    slow = Stalls(1 / STALL_EVERY, STALL_SECONDS, everywhere=False)
    cases: dict[str, dict[str, Any]] = {
        "all shards": {},
        "a slow server": {"num_servers": 2, "stalls": slow},
        "a slow server, hedged": {"num_servers": 2, "stalls": slow, "hedge_after": hedge_after},
    }
    alone, beside = (np.array(times[f"one server {how}"]) for how in ("alone", "beside the others"))
    one = {"one server alone": alone, "one beside the others": beside.ravel()}
    sources = {**one, "the same, drawn together": beside}
    return {
        "one_server": {name: describe_times(list(seconds)) for name, seconds in one.items()},
        "comparison": {
            case: {
                "measured": describe_times(times[case]),
                **{
                    f"by {name}": simulate(own, num_shards, **options)
                    for name, own in sources.items()
                },
            }
            for case, options in cases.items()
        },
    }


def foretell(seconds: np.ndarray) -> list[dict[str, Any]]:
    """Requests to more shards than there are here, each on a machine of its own."""
    hedge_after = float(np.percentile(seconds, 95))
    rare = Stalls(STALL_SHARE, STALL_SECONDS)
    broken = Stalls(1.0, STALL_SECONDS, everywhere=False)
    # Equal servers beyond the second change a request's time no more.
    alike = [(number, servers) for number in NUM_SHARDS for servers in (1, 2)]
    cases = [
        *(("none", None, number, servers, servers > 1) for number, servers in alike),
        *(("rare, everywhere", rare, number, servers, servers > 1) for number, servers in alike),
        *(
            ("always, one server", broken, BROKEN_AMONG, servers, hedged)
            for servers, hedged in ((1, False), (2, False), (2, True), (4, False), (4, True))
        ),
    ]
    rows = []
    for name, stalls, num_shards, num_servers, hedged in cases:
        wait = hedge_after if hedged else None
        found = simulate(seconds, num_shards, num_servers, wait, stalls)
        own = {"stalls": name, "shards": num_shards, "servers": num_servers}
        rows.append({**own, "hedge_after": wait, **found})
    return rows


def format_tables(content: dict[str, Any]) -> list[str]:
    machine = content["machine"]
    lines = [
        f"{machine['cores']} cores, load {machine['load_before']:.1f} before and "
        f"{content['load_after']:.1f} after; hedge_after {content['hedge_after'] * 1000:.0f} ms",
        "",
        "| requests | | p50 ms | p95 ms | p99 ms |",
        "|---|---|---:|---:|---:|",
    ]
    groups = {"one server": content["one_server"], **content["comparison"]}
    for case, sources in groups.items():
        lines += [f"| {case} | {name} {show(times)}" for name, times in sources.items()]
    lines += [
        "",
        "| stalls | shards | servers | hedged | p50 ms | p95 ms | p99 ms | more requests |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in content["scale"]:
        head = f"| {row['stalls']} | {row['shards']} | {row['servers']} "
        head += "| yes " if row["hedge_after"] else "| no "
        lines.append(f"{head}{show(row)} {row['more_requests']:.1%} |")
    return lines


def show(times: dict[str, float]) -> str:
    return "| " + " | ".join(f"{times[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms")) + " |"


if __name__ == "__main__":
    main()
