"""`tfpqn serve` under faults: what each gets, what its neighbours notice, and what memory it takes.

    python benchmarks/serving_faults.py             # runs all faults, writes the JSON, prints it
    python benchmarks/serving_faults.py --table     # prints the table of the JSON

While correct requests go through gRPC and REST and each answer is checked, one fault after the
other is done to the server. Exit status 1 if a status was another than expected, a neighbour
failed or got a wrong answer, or memory grew beyond its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import select
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
import serving_tools as tools
from machine import describe_machine
from malformed_bodies import Connection, bodies_of, may_be_valid, run_examples
from serving_neighbours import Neighbours
from wrong_requests import (
    BIG_BYTES,
    make_big_posts,
    make_garbage,
    make_wrong_bodies,
    make_wrong_requests,
)

from tfpqn.export.client import SearchClient

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "serving_faults.json"
DEFAULTS = {"items": 5000, "bodies": 10_000, "seconds": 2.0, "queries": 16}
HALF_OPEN = 40
SHOWN = 5


class Stage(NamedTuple):
    """What a fault has to work with."""

    server: tools.Server
    base_path: Path
    spare: Path
    queries: list[tools.Query]
    neighbours: Neighbours
    bodies: int
    seconds: float


class Outcome(NamedTuple):
    """What a fault met: how often each status came, and which laws were broken."""

    statuses: Counter[str]
    broken: list[str]


def main() -> None:
    arguments = parse_arguments()
    if arguments.table:
        print("\n".join(format_table(json.loads(arguments.output.read_text()))))
        return
    content = asyncio.run(measure(arguments))
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(format_table(content)))
    failed = [row for row in content["results"] if not row["passed"]]
    if failed:
        sys.exit(f"Laws were broken: {json.dumps(failed, indent=1)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the table of the JSON")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    return arguments


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine(tools.LIBRARIES)
    rows = []
    with tools.work_folder(None) as folder:
        base_path, spare = folder / tools.NAME, folder / "spare"
        network = tools.build_network()
        paths = {
            number: tools.make_version(parent, network, arguments.items, number)
            for number, parent in ((1, base_path), (2, spare))
        }
        queries = tools.make_queries(paths, arguments.queries)
        batching = paths[1] / "batching_params.pbtxt"
        with tools.Server(base_path, batching, folder / "server.log") as server:
            for name in arguments.faults:
                fault = FAULTS[name]
                neighbours = Neighbours(server, queries)
                stage = Stage(
                    server,
                    base_path,
                    spare,
                    queries,
                    neighbours,
                    arguments.bodies,
                    arguments.seconds,
                )
                rows.append({"fault": name, **await run_fault(fault, stage)})
                print(f"{name}: {'passed' if rows[-1]['passed'] else rows[-1]['broken']}")
        if not all(row["passed"] for row in rows):
            print((folder / "server.log").read_text(errors="replace")[-3000:], file=sys.stderr)
    values = {name: getattr(arguments, name) for name in DEFAULTS}
    options = " ".join(f"--{name} {value}" for name, value in values.items())
    command = f"python benchmarks/serving_faults.py {options}"
    return {"command": command, "settings": values, "machine": machine, "results": rows}


async def run_fault(fault: Fault, stage: Stage) -> dict[str, Any]:
    """Do it beside neighbours, and see what it costs them."""
    before = stage.server.memory_mb()
    memory = [before]
    neighbours = stage.neighbours
    watch = asyncio.create_task(watch_memory(stage.server, memory))
    if fault.has_neighbours:
        async with neighbours:
            await asyncio.sleep(stage.seconds / 4)
            outcome = await fault.run(stage)
            await asyncio.sleep(stage.seconds / 4)
    else:
        outcome = await fault.run(stage)
    watch.cancel()
    broken = outcome.broken + neighbours.failures[:SHOWN]
    if not neighbours.versions:
        broken.append("no neighbour was answered")
    if max(memory) > before + fault.memory_bound_mb:
        broken.append(f"memory grew by more than {fault.memory_bound_mb} MB")
    return {
        "expected": fault.expected,
        "statuses": dict(outcome.statuses.most_common()),
        "neighbour_requests": neighbours.versions.total() + len(neighbours.failures),
        "neighbour_failures": len(neighbours.failures),
        "rss_mb_before": before,
        "rss_mb_max": max(memory),
        "rss_mb_after": stage.server.memory_mb(),
        "rss_mb_bound": before + fault.memory_bound_mb,
        "passed": not broken,
        "broken": broken,
    }


async def watch_memory(server: tools.Server, memory: list[float]) -> None:
    while True:
        memory.append(server.memory_mb())
        await asyncio.sleep(0.05)


# Versions


async def publish_new_version(stage: Stage) -> Outcome:
    """The next version appears; old answers, then new ones, and nothing else."""
    (stage.spare / "2").rename(stage.base_path / "2")
    broken = await wait_for_states(stage.server, {2: "AVAILABLE", 1: "END"})
    await asyncio.sleep(0.2)
    statuses = Counter({f"version {n}": count for n, count in stage.neighbours.versions.items()})
    return Outcome(statuses, broken + await find_strangers(stage, {2}))


async def publish_corrupt_versions(stage: Stage) -> Outcome:
    """Versions that are torn, changed or not whole; the version that is served stays."""
    served = max(int(path.name) for path in stage.base_path.iterdir())
    for number, spoil in enumerate(SPOILS, served + 1):
        copy = stage.spare / str(number)
        shutil.copytree(stage.base_path / str(served), copy)
        spoil(copy)
        copy.rename(stage.base_path / copy.name)
    numbers = range(served + 1, served + 1 + len(SPOILS))
    broken = await wait_for_states(stage.server, dict.fromkeys(numbers, "END"))
    states = await asyncio.to_thread(stage.server.states)
    statuses = Counter(f"state {states.get(number)}" for number in numbers)
    broken += await find_strangers(stage, {served})
    for number in numbers:
        shutil.rmtree(stage.base_path / str(number))
    return Outcome(statuses, broken)


def halve_variables(path: Path) -> None:
    (data,) = (path / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    (data,) = (path / "variables").glob("variables.data-*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def spoil_graph(path: Path) -> None:
    (path / "saved_model.pb").write_bytes(random.Random(0).randbytes(10_000))


def spoil_warm_up(path: Path) -> None:
    (path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records")


def leave_only_the_manifest(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name != "manifest.json":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


SPOILS = (halve_variables, flip_a_bit, spoil_graph, spoil_warm_up, leave_only_the_manifest)


async def wait_for_states(server: tools.Server, wanted: dict[int, str]) -> list[str]:
    """What is amiss if the versions do not come into these states."""
    deadline = time.monotonic() + tools.WAIT_SECONDS
    while time.monotonic() < deadline:
        states = await asyncio.to_thread(server.states)
        if wanted.items() <= states.items():
            return []
        await asyncio.sleep(0.1)
    return [f"versions must come into the states {wanted}. Received: {states}"]


async def find_strangers(stage: Stage, expected: set[int]) -> list[str]:
    """What is amiss if other versions answer from now on."""
    before = stage.neighbours.versions.copy()
    await asyncio.sleep(stage.seconds / 2)
    versions = set(stage.neighbours.versions - before)
    return [] if versions == expected else [f"{expected} must answer. Received: {versions}"]


# The server dies


async def kill_and_restart(stage: Stage) -> Outcome:
    """SIGKILL under way; clients try again until it is back."""
    stop = threading.Event()
    tallies = [Counter[str]() for _ in range(4)]
    clients = [
        asyncio.create_task(asyncio.to_thread(ask_on, stage, number, stop, tally))
        for number, tally in enumerate(tallies)
    ]
    await asyncio.sleep(stage.seconds / 2)
    before = [tally["answered"] for tally in tallies]
    await asyncio.to_thread(stage.server.kill)
    await asyncio.sleep(stage.seconds / 4)
    await asyncio.to_thread(stage.server.start)
    deadline = time.monotonic() + tools.WAIT_SECONDS
    while time.monotonic() < deadline and not all(
        tally["answered"] > old + 10 for tally, old in zip(tallies, before, strict=True)
    ):
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*clients)
    broken = [] if all(before) else ["each client must be answered before"]
    if any(t["answered"] <= old + 10 for t, old in zip(tallies, before, strict=True)):
        broken.append("each client must be answered again")
    return Outcome(sum(tallies, Counter()), broken)


def ask_on(stage: Stage, number: int, stop: threading.Event, tally: Counter[str]) -> None:
    """A client that never gives up; half of them speak REST."""
    is_rest = number % 2 == 1
    port = stage.server.rest_port if is_rest else stage.server.port
    options = {"rest": is_rest, "max_attempts": 1000, "timeout": tools.WAIT_SECONDS}
    with SearchClient(f"127.0.0.1:{port}", tools.NAME, **options) as client:
        while not stop.is_set():
            number += 1
            query = stage.queries[number % len(stage.queries)]
            ask = {"search": client.search, "search_by_embedding": client.search_by_embedding}
            try:
                result = ask[query.signature](np.array([query.item], object).tolist())
            except Exception as error:
                stage.neighbours.failures.append(f"{'rest' if is_rest else 'grpc'} {error!r}")
                return
            found = tools.Found(result.ids[0].tolist(), result.scores[0].tolist())
            stage.neighbours.check(query, lambda found=found: found)
            tally["answered"] += 1


# Bytes that are no requests


async def send_garbage(stage: Stage) -> Outcome:
    statuses: Counter[str] = Counter()
    for payload in make_garbage():
        for protocol, port in ports_of(stage).items():
            # gRPC's core does not close all of them before its handshake's time is over.
            patience = 0.5 if protocol == "grpc" else tools.WAIT_SECONDS
            status = await asyncio.to_thread(exchange, port, payload, patience)
            statuses[f"{protocol} {status}"] += 1
    return judge(statuses, {"grpc closed", "grpc no answer", "rest closed", "rest 400"})


def ports_of(stage: Stage) -> dict[str, int]:
    return {"grpc": stage.server.port, "rest": stage.server.rest_port}


def exchange(port: int, payload: bytes, patience: float, ends_sending: bool = True) -> str:
    """Send bytes and read until the server closes: the HTTP status, if it is one."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        view = memoryview(payload)
        # The server may answer and close before all is sent.
        with contextlib.suppress(ConnectionError):
            while view and not select.select([connection], [], [], 0)[0]:
                view = view[connection.send(view[:65536]) :]
            if ends_sending and not view:
                # Of a connection that is closed already it raises an OSError without a kind.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:
            pass
        except TimeoutError:
            return "no answer"
    return answer[9:12].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"


async def send_big_bodies(stage: Stage) -> Outcome:
    """Far beyond the largest message: as one request of gRPC, with a length, and in chunks."""
    request = tools.make_request("search")
    request.inputs["images"].dtype = 7
    request.inputs["images"].tensor_shape.dim.add(size=1)
    request.inputs["images"].string_val.append(bytes(BIG_BYTES))
    data = request.SerializeToString()
    statuses = Counter([await ask_grpc(stage.server, data) for _ in range(3)])
    for payload in 3 * make_big_posts():
        port = stage.server.rest_port
        # Who ends sending is taken for gone.
        status = await asyncio.to_thread(exchange, port, payload, tools.WAIT_SECONDS, False)
        statuses[f"rest {status}"] += 1
    return judge(statuses, {"grpc RESOURCE_EXHAUSTED", "rest 413"})


async def ask_grpc(server: tools.Server, data: bytes) -> str:
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            await channel.unary_unary(tools.PREDICT)(data, timeout=tools.WAIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            return f"grpc {error.code().name}"
    return "grpc OK"


async def leave_half_requests(stage: Stage) -> Outcome:
    """Connections that send half a request; then some end sending, and the others hang."""
    half = {"grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", "rest": b""}
    whole = tools.make_post(stage.queries[0].rest_body)
    half["rest"] = whole[: len(whole) // 2]
    opened = len(list(Path(f"/proc/{stage.server.pid}/fd").iterdir()))
    statuses: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            for protocol, port in ports_of(stage).items():
                one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                one.sendall(half[protocol] if number % 4 else half[protocol][:20])
                if number % 2:
                    one.shutdown(socket.SHUT_WR)
                statuses[f"{protocol} {'half-closed' if number % 2 else 'hanging'}"] += 1
        await asyncio.sleep(stage.seconds)
    await asyncio.sleep(0.5)
    left = len(list(Path(f"/proc/{stage.server.pid}/fd").iterdir())) - opened
    # Neighbours' channels may open some meanwhile.
    broken = [f"connections must be closed. Received: {left} left"] if left > HALF_OPEN / 2 else []
    return Outcome(statuses, broken)


# Requests that are none of the model's


async def send_wrong_inputs(stage: Stage) -> Outcome:
    """Wrong dtypes, shapes, names and values."""
    statuses: Counter[str] = Counter()
    for request in make_wrong_requests():
        statuses[await ask_grpc(stage.server, request.SerializeToString())] += 1
    for body in make_wrong_bodies():
        payload = tools.make_post(json.dumps(body).encode())
        statuses[f"rest {await ask_rest(stage.server, payload)}"] += 1
    return judge(statuses, {"grpc INVALID_ARGUMENT", "rest 400"})


async def ask_rest(server: tools.Server, payload: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)
    with contextlib.closing(writer):
        writer.write(payload)
        return (await asyncio.wait_for(tools.read_response(reader), tools.WAIT_SECONDS))[0]


async def ask_for_unknown_names(stage: Stage) -> Outcome:
    """Signatures, models and versions that are not there."""
    query = stage.queries[-1]
    broken, statuses = [], Counter()
    for name, code in (
        ("signature", "FAILED_PRECONDITION"),
        ("model", "NOT_FOUND"),
        ("version", "NOT_FOUND"),
    ):
        request = tools.PredictRequest.FromString(query.grpc_body)
        if name == "signature":
            request.model_spec.signature_name = "unknown"
        elif name == "model":
            request.model_spec.name = "unknown"
        else:
            request.model_spec.version.value = 999
        status = await ask_grpc(stage.server, request.SerializeToString())
        statuses[f"{status} ({name})"] += 1
        broken += [] if status == f"grpc {code}" else [f"{name}: {status}"]
    unknown = json.dumps({"signature_name": "unknown", "inputs": [[0.0]]}).encode()
    for name, path, body, code in (
        ("signature", tools.PREDICT_PATH, unknown, 400),
        ("model", "/v1/models/unknown:predict", query.rest_body, 404),
        ("version", f"/v1/models/{tools.NAME}/versions/999:predict", query.rest_body, 404),
    ):
        status = await ask_rest(stage.server, tools.make_post(body, path))
        statuses[f"rest {status} ({name})"] += 1
        broken += [] if status == code else [f"{name}: {status}"]
    return Outcome(statuses, broken)


# Malformed bodies


async def send_malformed_bodies(stage: Stage) -> Outcome:
    """Property-based: no body makes the server fail, and none but a valid one is answered."""
    return await asyncio.to_thread(try_bodies, stage)


def try_bodies(stage: Stage) -> Outcome:
    statuses: Counter[str] = Counter()
    broken: list[str] = []
    with contextlib.closing(Connection(stage.server.rest_port)) as connection:

        def try_body(body: bytes) -> None:
            status = connection.post(body)
            statuses[f"rest {status}"] += 1
            if status != 400 and not (status == 200 and may_be_valid(body)):
                broken.append(f"{status} for {body[:200]!r}")

        # Some bodies are still valid; they do not count.
        for turn in range(10):
            missing = stage.bodies - statuses["rest 400"]
            if missing <= 0 or broken:
                break
            run_examples(try_body, bodies_of(stage.queries), missing, turn)
        else:
            broken.append("too few bodies were malformed")
    return Outcome(statuses, broken[:SHOWN])


def judge(statuses: Counter[str], expected: set[str]) -> Outcome:
    return Outcome(statuses, [f"not expected: {name}" for name in statuses if name not in expected])


class Fault(NamedTuple):
    """One fault: what does it, what should come of it, and how much memory it may take."""

    run: Callable[[Stage], Awaitable[Outcome]]
    expected: str
    memory_bound_mb: int
    has_neighbours: bool = True


FAULTS = {
    "new version": Fault(publish_new_version, "old answers, then new ones", 500),
    "corrupt versions": Fault(publish_corrupt_versions, "refused (state END), old one stays", 500),
    "killed and restarted": Fault(kill_and_restart, "all answered after retries", 1000, False),
    "garbage bytes": Fault(send_garbage, "gRPC closed or no answer; REST 400 or closed", 100),
    "100 MB bodies": Fault(send_big_bodies, "RESOURCE_EXHAUSTED; 413", 400),
    "wrong inputs": Fault(send_wrong_inputs, "INVALID_ARGUMENT; 400", 100),
    "unknown names": Fault(
        ask_for_unknown_names,
        "signature FAILED_PRECONDITION, model and version NOT_FOUND; 400, 404, 404",
        100,
    ),
    "half requests": Fault(leave_half_requests, "others are answered, all closed at last", 100),
    "malformed bodies": Fault(send_malformed_bodies, "400; 200 where still valid", 150),
}


def format_table(content: dict[str, Any]) -> list[str]:
    """The results as lines of Markdown."""
    lines = [
        "| fault | expected | seen | neighbours' requests | failures | memory MB before, most, "
        "after | passed |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in content["results"]:
        seen = ", ".join(f"{count:,} x {name}" for name, count in row["statuses"].items())
        memory = ", ".join(f"{row[f'rss_mb_{name}']:.0f}" for name in ("before", "max", "after"))
        lines.append(
            f"| {row['fault']} | {row['expected']} | {seen} | {row['neighbour_requests']:,} "
            f"| {row['neighbour_failures']} | {memory} | {'yes' if row['passed'] else 'no'} |"
        )
    return lines


if __name__ == "__main__":
    main()
