"""Who may ask, and how little a caller who sends too much or too slowly can do."""

import asyncio
import gc
import gzip
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from tests.serving.calls import TIMEOUT, call_rest, embeddings_of, make_request
from tests.serving.conftest import MAX_BYTES
from tfpqn.export.server import ModelServer, bodies, rest_server, running_server
from tfpqn.export.server.bodies import Bodies, decompress
from tfpqn.export.server.errors import ServingError
from tfpqn.export.server.hosts import HostCheck, is_loopback

BY_EMBEDDING = "search_by_embedding"
INPUTS = {"embeddings": embeddings_of(1)}
BODY = json.dumps({"signature_name": BY_EMBEDDING, "inputs": INPUTS["embeddings"].tolist()})


def test_the_server_listens_on_loopback_alone_unless_told_otherwise(tmp_path, caplog):
    assert is_loopback(ModelServer(tmp_path)._host)
    with caplog.at_level(logging.WARNING, "tfpqn"):
        with running_server(tmp_path, host="0.0.0.0", port=0, rest_api_port=None):
            pass
    assert "whoever reaches it" in caplog.text


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],
)
def test_loopback_is_known_by_its_address(host, expected):
    assert is_loopback(host) is expected


LOCAL = ["localhost", "LOCALHOST:80", "localhost.:80", "127.0.0.1:8501", "127.9.9.9", "[::1]:80"]
FOREIGN = [
    *("", "evil.example", "evil.example:8501", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("10.0.0.1", "[fe80::1]", "localhost:80:80", "localhost@evil.example", "[::1", "0x7f.1"),
]


def is_accepted(check, **headers):
    try:
        check.require(Headers(headers))
    except ServingError as error:
        assert error.http_status == 403
        return False
    return True


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (HostCheck("127.0.0.1"), LOCAL, FOREIGN),
        (HostCheck("10.0.0.1"), [*LOCAL, "10.0.0.1:80"], ["10.0.0.2", "evil.example"]),
        (HostCheck("0.0.0.0"), [*LOCAL, "10.0.0.1:80", "[fe80::1]"], ["evil.example", ""]),
        (
            HostCheck("::1", ["Birds.example", "[fe80::1]"]),
            [*LOCAL, "birds.EXAMPLE:99", "[FE80:0::1]"],
            ["fish.example", "a.birds.example"],
        ),
    ],
)
def test_hosts_and_pages_are_those_of_this_machine_or_allowed(check, accepted, refused):
    for host in accepted:
        assert is_accepted(check, host=host), host
        assert is_accepted(check, host="localhost", origin=f"http://{host}"), host
    for host in refused:
        assert not is_accepted(check, host=host), host
        assert not is_accepted(check, host="localhost", origin=f"https://{host}"), host
    assert not is_accepted(check)
    assert not is_accepted(check, host="localhost", origin="null")
    assert not check_both(check)


def check_both(check):
    """A second host behind a good one."""
    raw = [(b"host", b"localhost"), (b"host", b"evil.example")]
    try:
        check.require(Headers(raw=raw))
    except ServingError:
        return False
    return True


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_foreign_host_or_page_gets_nothing_on_any_path(plain, headers):
    port, path = plain.server.rest_port, f"/v1/models/{plain.name}"
    for asked in (path, f"{path}/metadata", "/monitoring/prometheus/metrics", "/elsewhere"):
        answer = call_rest(port, asked, headers=headers)
        assert answer.status == 403 and list(answer.json) == ["error"]
    assert call_rest(port, f"{path}:predict", BODY.encode(), headers).status == 403


def test_a_name_that_is_allowed_is_answered(plain):
    headers = {"Host": "birds.example:80", "Origin": "https://birds.example"}
    answer = call_rest(plain.server.rest_port, f"/v1/models/{plain.name}", headers=headers)
    assert answer.status == 200


# Slow and endless senders


def head_of(served, *lines):
    lines = ("Host: localhost", *lines)
    return "\r\n".join([f"POST /v1/models/{served.name}:predict HTTP/1.1", *lines]).encode()


def seconds_until_closed(served, start, piece, pause):
    """Send a start, then piece after piece, until the server closes the connection."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.server.rest_port)) as connection:
        connection.settimeout(pause)
        try:
            connection.sendall(start)
            while time.monotonic() - began < TIMEOUT:
                connection.sendall(piece)
                try:
                    if not connection.recv(1000):
                        break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
    return time.monotonic() - began


CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "piece"),
    [
        ((), b"x"),
        (("X: ",), b"x"),
        (("Content-Length: 1000\r\n\r\n",), b"["),
        ((f"{CHUNKED}1\r\n \r\n0\r\nX: ",), b"x"),
    ],
    ids=["head", "header", "body", "trailer"],
)
def test_who_sends_drop_by_drop_is_cut_off_in_time(plain, monkeypatch, lines, piece):
    monkeypatch.setattr(rest_server, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(rest_server, "_REQUEST_SECONDS", 0.5)
    assert seconds_until_closed(plain, head_of(plain, *lines), piece, 0.02) < 5


@pytest.mark.parametrize(
    ("lines", "piece"),
    [
        (("X: 1",), b"\r\nX: 1"),
        ((f"{CHUNKED}1\r\n \r\n0\r\nX: 1",), b"\r\nX: 1"),
        ((f"{CHUNKED}1\r\n \r\n0\r\nX: ",), b"x"),
        ((CHUNKED,), b"1\r\n \r\n"),
        ((f"{CHUNKED}1;",), b"x"),
    ],
    ids=["headers", "trailers", "one trailer", "tiny chunks", "chunk extension"],
)
def test_what_has_no_end_beside_the_body_is_cut_off_at_once(plain, lines, piece):
    assert seconds_until_closed(plain, head_of(plain, *lines), piece * 20_000, 0.02) < 5
    plain.caller.predict(plain.name, BY_EMBEDDING, INPUTS)


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_body_in_small_chunks_with_a_trailer_is_read(plain, size):
    parts = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts)
    with socket.create_connection(("127.0.0.1", plain.server.rest_port), TIMEOUT) as connection:
        for _ in range(2):  # the connection stays
            connection.sendall(head_of(plain, f"{CHUNKED}{chunks}0\r\nX: 1\r\n\r\n"))
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            time.sleep(0.05)
            connection.recv(10_000)


# Compressed bodies


@given(data=st.binary(max_size=2000), max_bytes=st.integers(1, 2000))
def test_gzip_is_decompressed_up_to_the_bound(data, max_bytes):
    if len(data) <= max_bytes:
        assert decompress(gzip.compress(data), max_bytes) == data
    else:
        with pytest.raises(ServingError) as caught:
            decompress(gzip.compress(data), max_bytes)
        assert caught.value.http_status == 413


def test_gzip_bodies_are_answered_and_broken_ones_refused(plain):
    path, packed = f"/v1/models/{plain.name}:predict", gzip.compress(BODY.encode())
    headers = {"Content-Encoding": "gzip"}
    for body, status in (
        (packed, 200),
        (packed[:-3], 400),
        (packed + b"more", 400),
        (BODY.encode(), 400),
        (gzip.compress(b" " * (MAX_BYTES + 1)), 413),
    ):
        answer = call_rest(plain.server.rest_port, path, body, headers)
        assert answer.status == status, answer


# What all requests hold together


def test_large_bodies_are_refused_beyond_the_bound_and_small_ones_taken():
    held = Bodies(2**20)
    with held.hold() as first, held.hold() as second, held.hold() as third:
        first(4 * 2**20)
        third(1000)
        with pytest.raises(ServingError, match="too many large requests") as caught:
            second(2**17)
        assert (caught.value.code, caught.value.http_status) == ("UNAVAILABLE", 503)
    with held.hold() as again:
        again(4 * 2**20)


def test_few_messages_arrive_at_a_time_and_the_slow_give_way(monkeypatch):
    monkeypatch.setattr(bodies, "_GIVE_WAY_SECONDS", 0.05)
    arriving, most = 0, 0

    async def read(is_stuck):
        nonlocal arriving, most
        arriving += 1
        most = max(most, arriving)
        try:
            await asyncio.sleep(TIMEOUT if is_stuck else 0)
            return b"message"
        finally:
            arriving -= 1

    async def receive_all():
        held = Bodies(2**20)
        stuck = [True] * 3 * bodies._MAX_ARRIVING + [False] * 50
        calls = [held.receive(lambda is_stuck=is_stuck: read(is_stuck)) for is_stuck in stuck]
        tasks = list(map(asyncio.ensure_future, calls))
        done = await asyncio.gather(*tasks[-50:])
        for task in tasks:
            task.cancel()
        return done, await asyncio.gather(*tasks[:-50], return_exceptions=True)

    done, stuck = asyncio.run(receive_all())
    assert done == [b"message"] * 50
    assert most <= bodies._MAX_ARRIVING
    assert all(isinstance(error, (ServingError, asyncio.CancelledError)) for error in stuck)


def find_large():
    """Texts and bytes of a quarter of a request, and requests."""
    parts = [part for one in gc.get_objects() for part in gc.get_referents(one)]
    texts = [part for part in parts if type(part) in (bytes, str, bytearray)]
    requests = [part for part in parts if type(part).__name__ == "PredictRequest"]
    return [text for text in texts if len(text) >= MAX_BYTES // 4] + requests


def test_a_request_is_let_go_when_it_is_refused(plain):
    """Else it would stay until the garbage is collected, which large bytes do not hasten."""
    former = set(map(id, find_large()))
    images = {"images": np.array([bytes(MAX_BYTES // 2)], object)}
    request = make_request(plain.name, "search", images)
    body = json.dumps({"instances": [" " * (MAX_BYTES // 2)]}).encode()
    del images
    gc.collect()
    gc.disable()
    try:
        code = plain.caller.prediction.Predict.future(request, TIMEOUT).code()
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        answer = call_rest(plain.server.rest_port, f"/v1/models/{plain.name}:predict", body)
        assert answer.status == 400
        del body, request
        time.sleep(0.1)
        assert not [part for part in find_large() if id(part) not in former]
    finally:
        gc.enable()


def test_many_large_messages_at_once_are_answered_or_told_to_come_again(plain):
    images = {"images": np.array([bytes(MAX_BYTES // 2)], object)}

    def ask(_):
        try:
            plain.caller.predict(plain.name, "search", images)
        except Exception as error:
            return error.code().name

    with ThreadPoolExecutor(24) as pool:
        asked = pool.map(ask, range(48))
        plain.caller.predict(plain.name, BY_EMBEDDING, INPUTS)
        assert set(asked) <= {"INVALID_ARGUMENT", "UNAVAILABLE"}


# Where it listens


@pytest.mark.parametrize("option", ("port", "rest_api_port"))
def test_a_port_in_use_is_an_os_error_that_names_it(models, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"port": 0, "rest_api_port": 0, option: port}
        with pytest.raises(OSError, match=f"and free. Received: 127.0.0.1:{port}"):
            with running_server(models["int64"].folder, **options):
                pass


def test_a_base_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="base path must be a folder"):
        with running_server(tmp_path / "birds", port=0, rest_api_port=0):
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"port": -1},
        {"rest_api_port": 2**16},
        {"max_message_bytes": 0},
        {"file_system_poll_wait_seconds": 0},
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ModelServer(tmp_path, **options)
