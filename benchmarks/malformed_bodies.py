"""Bodies of requests of any form, and a connection that posts them."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from typing import Any

import serving_tools as tools
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st


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
            self._socket = socket.create_connection(("127.0.0.1", self._port), tools.WAIT_SECONDS)
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
