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
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
import serving_tools as tools
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from machine import describe_machine

from tfpqn.export.client import SearchClient

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "serving_faults.json"
DEFAULTS = {"items": 5000, "bodies": 10_000, "seconds": 2.0, "queries": 16}
PREDICT_PATH = f"/v1/models/{tools.NAME}:predict"
NEIGHBOURS = {"grpc": 4, "rest": 4}
HALF_OPEN = 40
BIG_BYTES = 100 * 10**6
WAIT_SECONDS = 60
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


class Neighbours:
    """Clients that send correct requests all the time and check every answer.

    Attributes:
        versions: How many answers came from each version.
        failures: What went wrong, one sentence each.
    """

    def __init__(self, server: tools.Server, queries: list[tools.Query]) -> None:
        self._server = server
        self._queries = queries
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []

    async def __aenter__(self) -> Neighbours:
        for number in range(NEIGHBOURS["grpc"]):
            self._tasks.append(asyncio.create_task(self._ask_grpc(number)))
        for number in range(NEIGHBOURS["rest"]):
            self._tasks.append(asyncio.create_task(self._ask_rest(number)))
        return self

    async def __aexit__(self, *error: object) -> None:
        # Cancelling could be lost where an answer comes at that moment.
        self._is_over = True
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.failures += [repr(error) for error in done if error is not None]

    def _in_turn(self, number: int) -> Iterator[tools.Query]:
        while not self._is_over:
            yield self._queries[number % len(self._queries)]
            number += 3

    def check(self, query: tools.Query, read: Callable[[], tools.Found]) -> None:
        """Count one answer."""
        version = tools.find_version(read(), query)
        if version is None:
            self.failures.append(f"a wrong answer to {query.signature}")
        else:
            self.versions[version] += 1

    async def _ask_grpc(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._server.address, options) as channel:
            call = channel.unary_unary(tools.PREDICT)
            for query in self._in_turn(number):
                try:
                    data = await call(query.grpc_body, timeout=WAIT_SECONDS)
                    self.check(query, lambda data=data: tools.read_grpc_answer(data))
                except grpc.aio.AioRpcError as error:
                    self.failures.append(f"grpc {error.code().name}: {error.details()}")
                # They share this process and the machine with what makes the faults.
                await asyncio.sleep(0.01)

    async def _ask_rest(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.rest_port)
        with contextlib.closing(writer):
            for query in self._in_turn(number):
                writer.write(tools.make_post(query.rest_body))
                status, data = await asyncio.wait_for(tools.read_response(reader), WAIT_SECONDS)
                if status == 200:
                    self.check(query, lambda data=data: tools.read_rest_answer(data))
                else:
                    self.failures.append(f"rest {status}: {data[:200]!r}")
                await asyncio.sleep(0.01)


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
    deadline = time.monotonic() + WAIT_SECONDS
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
    deadline = time.monotonic() + WAIT_SECONDS
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
    options = {"rest": is_rest, "max_attempts": 1000, "timeout": WAIT_SECONDS}
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
            patience = 0.5 if protocol == "grpc" else WAIT_SECONDS
            status = await asyncio.to_thread(exchange, port, payload, patience)
            statuses[f"{protocol} {status}"] += 1
    return judge(statuses, {"grpc closed", "grpc no answer", "rest closed", "rest 400"})


def make_garbage() -> list[bytes]:
    rng = random.Random(0)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(508)
    endless = b"GET /v1/models HTTP/1.1\r\nX: " + 10**6 * b"a"
    random_ones = [rng.randbytes(2**size) for size in range(0, 20, 2) for _ in range(3)]
    return [
        *random_ones,
        preface + rng.randbytes(5000),
        hello,
        endless,
        b"\0" * 70_000,
        b"\r\n" * 9,
    ]


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
        status = await asyncio.to_thread(exchange, port, payload, WAIT_SECONDS, False)
        statuses[f"rest {status}"] += 1
    return judge(statuses, {"grpc RESOURCE_EXHAUSTED", "rest 413"})


def make_big_posts() -> list[bytes]:
    """A body with a length, and one in chunks."""
    head = f"POST {PREDICT_PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % 10**6 + bytes(10**6) + b"\r\n"
    chunks = BIG_BYTES // 10**6 * chunk + b"0\r\n\r\n"
    return [tools.make_post(bytes(BIG_BYTES)), head.encode() + chunks]


async def ask_grpc(server: tools.Server, data: bytes) -> str:
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            await channel.unary_unary(tools.PREDICT)(data, timeout=WAIT_SECONDS)
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


def make_wrong_requests() -> list[Any]:
    import tensorflow as tf

    width = tools.EMBEDDING_DIM
    row = np.zeros([1, width], np.float32)
    inputs: list[tuple[str, dict[str, Any]]] = [
        ("search_by_embedding", {"embeddings": row.astype(np.int32)}),
        ("search_by_embedding", {"embeddings": row.astype(np.float64)}),
        ("search_by_embedding", {"embeddings": row.astype(np.float16)}),
        ("search_by_embedding", {"embeddings": row > 0}),
        ("search_by_embedding", {"embeddings": np.full([1, width], b"0", object)}),
        ("search_by_embedding", {"embeddings": row[0]}),
        ("search_by_embedding", {"embeddings": row[:, 1:]}),
        ("search_by_embedding", {"embeddings": row[:0]}),
        ("search_by_embedding", {"embeddings": np.full_like(row, np.nan)}),
        ("search_by_embedding", {"images": np.array([b""], object)}),
        ("search_by_embedding", {"embeddings": row, "more": row}),
        ("search_by_embedding", {}),
        ("search", {"images": row}),
        ("search", {"images": np.array([[b"\x89PNG"]], object)}),
        ("search", {"images": np.array([b"", b"no image"], object)}),
        ("decode", {"codes": np.full([1, tools.CODE_LENGTH], 256, np.int32)}),
        ("decode", {"codes": np.zeros([1, tools.CODE_LENGTH], np.int64)}),
    ]
    requests = []
    for signature, values in inputs:
        request = tools.make_request(signature)
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    # A tensor that promises more values than it has, and one with a negative size.
    for size in (2**40, -1):
        request = tools.make_request("search_by_embedding")
        request.inputs["embeddings"].CopyFrom(tf.make_tensor_proto(row))
        request.inputs["embeddings"].tensor_shape.dim[0].size = size
        requests.append(request)
    return requests


def make_wrong_bodies() -> list[Any]:
    width = tools.EMBEDDING_DIM
    values: list[Any] = [
        [["0"] * width],
        [[True] * width],
        [[None] * width],
        [[{"b64": "AAAA"}] * width],
        [[0.0] * (width - 1)],
        [[0.0] * width, [0.0]],
        [0.0] * width,
        [],
        0,
        "text",
        {"embeddings": [[1e300] * width]},
        {"images": ["text"]},
        {},
        [[float("nan")] * width],
    ]
    bodies = [{"signature_name": "search_by_embedding", "inputs": value} for value in values]
    images = [[1.5], [{"b64": "*"}], [{"b64": "AAAA"}], ["text"], [[{"b64": "AAAA"}]], [{}]]
    return bodies + [{"signature_name": "search", "inputs": value} for value in images]


async def ask_rest(server: tools.Server, payload: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)
    with contextlib.closing(writer):
        writer.write(payload)
        return (await asyncio.wait_for(tools.read_response(reader), WAIT_SECONDS))[0]


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
        ("signature", PREDICT_PATH, unknown, 400),
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


def run_examples(
    check: Callable[[bytes], None], bodies: st.SearchStrategy[bytes], count: int, turn: int
) -> None:
    options: dict[str, Any] = {"deadline": None, "database": None, "phases": [Phase.generate]}
    checks = list(HealthCheck)
    seed(turn)(
        settings(max_examples=count, suppress_health_check=checks, **options)(given(bodies)(check))
    )()


def bodies_of(queries: list[tools.Query]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON of any form, requests of wrong form, and valid requests with changed bytes."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    json_values = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["b64", "images", "embeddings", "x"]), inner, max_size=3
            )
        ),
        max_leaves=12,
    )
    keys = st.sampled_from(["inputs", "instances", "signature_name", "embeddings", ""])
    names = st.sampled_from(
        ["search", "search_by_embedding", "embed", "decode", "search_by_id", ""]
    )
    requests = st.fixed_dictionaries(
        {"signature_name": names, "inputs": json_values}
    ) | st.fixed_dictionaries({"signature_name": names, "instances": json_values})
    documents = requests | st.dictionaries(keys, json_values, max_size=4) | json_values
    valid = st.sampled_from([query.rest_body for query in queries[:: len(queries) // 4]])
    deep = st.builds(
        lambda depth, char: char * depth,
        st.integers(1, 5000),
        st.sampled_from([b"[", b'{"inputs":']),
    )
    return st.one_of(
        st.binary(max_size=200),
        documents.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
        deep,
        st.builds(change, valid, st.randoms(use_true_random=False)),
    )


def change(body: bytes, rng: random.Random) -> bytes:
    """A body with bytes changed, cut off, left out or doubled."""
    start = rng.randrange(len(body))
    end = min(len(body), start + rng.randrange(1, 40))
    middle = rng.choice(
        [b"", rng.randbytes(end - start), 2 * body[start:end], b"[", b"}", b'"', b"\\"]
    )
    return body[:start] if rng.random() < 0.2 else body[:start] + middle + body[end:]


def may_be_valid(body: bytes) -> bool:
    """Whether a request for a search, for all one can see without the server."""
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and ("inputs" in document) != ("instances" in document)


class Connection:
    """A blocking connection that is opened again when the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def post(self, body: bytes) -> int:
        """Send a body to the model and return the status."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), WAIT_SECONDS)
        self._socket.sendall(tools.make_post(body))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(rest) < length:
            rest += self._receive()
        if b"connection: close" in head.lower():
            self.close()
        return int(head[9:12])

    def _receive(self) -> bytes:
        data = self._socket.recv(65536) if self._socket else b""
        if not data:
            raise ConnectionError("The server must answer. Received: the end of the connection")
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


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
