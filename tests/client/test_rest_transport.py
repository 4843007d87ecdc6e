"""What REST servers may send that is no answer, and servers that never finish."""

import contextlib
import socket
import threading

import httpx
import pytest

from tests.client.ways import open_client
from tfpqn.export.client import ServingError

WAYS = ("REST", "REST asyncio")
every_way = pytest.mark.parametrize("way", WAYS)


class Wire(httpx.MockTransport, httpx.AsyncBaseTransport):
    """Answers everything with one response, or raises one error."""

    def __init__(self, answer):
        def reply(request):
            if isinstance(answer, Exception):
                raise answer
            # A response is read once.
            return httpx.Response(answer.status_code, content=answer.content)

        super().__init__(reply)


def ask(way, answer, **options):
    with open_client(way, "localhost:1", wire=Wire(answer), **options) as client:
        with pytest.raises(ServingError) as error:
            client.signatures()
    return error.value


@every_way
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"metadata": 1}', b"[" * 100_000, b"1" * 5000]
    + [b'{"metadata": {"signature_def": {"signature_def": 1}}}'],
    ids=range(7),
)
def test_what_is_no_answer_is_an_internal_error(way, content):
    assert ask(way, httpx.Response(200, content=content)).code == "INTERNAL"


@every_way
@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (httpx.Response(400, json={"error": "bad rows"}), "INVALID_ARGUMENT", "bad rows"),
        (httpx.Response(404, content=b"<html>"), "NOT_FOUND", "HTTP status 404 <html>"),
        (httpx.Response(401, json=["?"]), "UNAUTHENTICATED", "HTTP status 401"),
        (httpx.Response(409), "ABORTED", "409"),
        (httpx.Response(418), "INVALID_ARGUMENT", "418"),
        (httpx.Response(502), "UNKNOWN", "502"),
    ],
)
def test_statuses_are_refusals(way, response, code, words):
    error = ask(way, response)
    assert error.code == code and words in error.message


@every_way
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (httpx.ReadError("reset"), "UNAVAILABLE"),
        (ConnectionResetError("reset"), "UNAVAILABLE"),
        (httpx.ReadTimeout("slow"), "DEADLINE_EXCEEDED"),
    ],
)
def test_failures_on_the_way_have_the_names_of_grpc(way, failure, code):
    assert ask(way, failure, max_attempts=2).code == code


@every_way
def test_a_large_answer_is_not_read_to_its_end(way):
    error = ask(way, httpx.Response(200, content=bytes(5000)), max_message_bytes=4096)
    assert error.code == "RESOURCE_EXHAUSTED"


@contextlib.contextmanager
def dripping_server():
    """Promises an answer and sends it byte by byte, without end."""
    stop = threading.Event()
    listener = socket.create_server(("localhost", 0))

    def drip():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not stop.wait(0.02):
                connection.sendall(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


@every_way
def test_a_call_ends_in_time_though_the_answer_drips(way):
    with dripping_server() as address, open_client(way, address, timeout=0.3) as client:
        with pytest.raises(ServingError) as error:
            client.signatures()
    assert error.value.code == "DEADLINE_EXCEEDED"
