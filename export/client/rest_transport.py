"""A server asked over TensorFlow Serving's REST interface."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
from google.protobuf.json_format import ParseDict

from ..interface.errors import ServingError
from ..interface.json_values import from_json, to_json
from ..interface.messages import SignatureDefMap
from ..interface.signatures import Arrays, Signature
from ..interface.tensor_protos import read_signatures
from ..interface.version_status import VersionStatus
from .errors import (
    DEADLINE_EXCEEDED,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Deadline,
    code_of_http_status,
    read_refusal,
    reading_answer,
)
from .options import ClientOptions

# Of TLS some errors come as Python's own, which are OSError.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, asyncio.TimeoutError)


class RestTransport:
    """Asks over HTTP, and tries again while the server is UNAVAILABLE.

    Where calls block, the clock is read between the parts of an answer's body. A server that stops
    in the middle of one can hold the call for up to twice its timeout, one that sends its headers
    in drops longer; calls that are awaited, and gRPC, end in time whatever comes.

    Args:
        options: Where and how.
        is_async: Whether calls are awaited; else each blocks, and what is awaited is done at once.
        wire: What carries the requests, in place of the network.
    """

    def __init__(self, options: ClientOptions, is_async: bool, wire: Any = None) -> None:
        self._options = options
        self._is_async = is_async
        self._url = _make_url(options)
        make: Any = httpx.AsyncClient if is_async else httpx.Client
        self._client = make(
            headers=[
                *options.headers,
                ("accept-encoding", "identity"),
                ("content-type", "application/json"),
            ],
            verify=_make_context(options),
            trust_env=not options.is_local,
            transport=wire,
        )

    async def predict(
        self, name: str, signature: Signature, inputs: Arrays, deadline: Deadline
    ) -> Arrays:
        """Run a signature on arrays that have its names and dtypes, in the column format."""
        values = {key: to_json(array) for key, array in inputs.items()}
        body = json.dumps({"signature_name": name, "inputs": values}).encode()
        content = await self._ask(":predict", deadline, body)
        infos = signature.outputs
        with reading_answer():
            found = content["outputs"]
            # A single output comes without its name.
            outputs = found if len(infos) > 1 else dict.fromkeys(infos, found)
            return {key: from_json(outputs[key], info) for key, info in infos.items()}

    async def signatures(self, deadline: Deadline) -> dict[str, Signature]:
        """The model's signatures by name."""
        content = await self._ask("/metadata", deadline)
        with reading_answer():
            definitions = dict(content["metadata"]["signature_def"])
            definitions.pop("@type", None)
            parsed = ParseDict(definitions, SignatureDefMap(), ignore_unknown_fields=True)
            return read_signatures(parsed)

    async def model_status(self, deadline: Deadline) -> list[VersionStatus]:
        """The versions that the server knows."""
        content = await self._ask("", deadline)
        with reading_answer():
            return [
                VersionStatus(
                    int(version["version"]), version["state"], **version.get("status", {})
                )
                for version in content["model_version_status"]
            ]

    def with_options(self, options: ClientOptions) -> RestTransport:
        """The same with another version, on the same connections."""
        other = copy.copy(self)
        other._options, other._url = options, _make_url(options)
        return other

    async def close(self) -> None:
        """Close all connections."""
        if self._is_async:
            await self._client.aclose()
        else:
            self._client.close()

    async def _ask(self, path: str, deadline: Deadline, body: bytes | None = None) -> Any:
        """The JSON of an answer; the last refusal if there is no time or attempt left."""
        for attempt in range(self._options.max_attempts):
            try:
                return await self._exchange(path, deadline, body)
            except ServingError as error:
                # Drawn, so that clients that failed together do not come back together.
                pause = 0.1 * 2**attempt * random.uniform(0.8, 1.2)
                is_last = attempt + 1 == self._options.max_attempts
                if error.code != UNAVAILABLE or is_last or pause >= deadline.remaining():
                    raise
            await self._sleep(pause)

    async def _exchange(self, path: str, deadline: Deadline, body: bytes | None) -> Any:
        timeout = deadline.remaining()
        receiving: Any = self._receive(path, deadline, body)
        if self._is_async:
            receiving = asyncio.wait_for(receiving, timeout)
        try:
            status, data = await receiving
        except _FAILURES as error:
            is_late = isinstance(error, (httpx.TimeoutException, asyncio.TimeoutError))
            # To ask twice does no harm, as with gRPC: a connection that broke counts as no server.
            code = DEADLINE_EXCEEDED if is_late else UNAVAILABLE
            details = str(error) or type(error).__name__
            raise read_refusal(code, details, self._options.address) from error
        if status != 200:
            reason = _read_reason(status, data)
            raise read_refusal(code_of_http_status(status), reason, self._options.address)
        with reading_answer():
            return json.loads(data)

    async def _receive(
        self, path: str, deadline: Deadline, body: bytes | None
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        self._require_size("a request", len(body or b""))
        request = self._client.build_request(
            "GET" if body is None else "POST",
            self._url + path,
            content=body,
            timeout=deadline.remaining(),
        )
        response = self._client.send(request, stream=True)
        response = await response if self._is_async else response
        data = bytearray()
        try:
            parts = response.aiter_bytes() if self._is_async else _walk(response.iter_bytes())
            async for part in parts:
                deadline.remaining()
                self._require_size("an answer", len(data) + len(part))
                data += part
        finally:
            await response.aclose() if self._is_async else response.close()
        return response.status_code, bytes(data)

    def _require_size(self, name: str, num_bytes: int) -> None:
        most = self._options.max_message_bytes
        if num_bytes > most:
            raise ServingError(
                RESOURCE_EXHAUSTED, f"expected {name} of at most {most} bytes. Received: more"
            )

    async def _sleep(self, seconds: float) -> None:
        if self._is_async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)


async def _walk(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _make_url(options: ClientOptions) -> str:
    url = f"{options.url}/v1/models/{quote(options.model, safe='')}"
    if options.version is not None:
        url += f"/versions/{options.version}"
    if options.version_label is not None:
        url += f"/labels/{quote(options.version_label, safe='')}"
    return url


def _read_reason(status: int, body: bytes) -> str:
    """The sentence in TensorFlow Serving's JSON, or of whoever else answers the beginning."""
    try:
        return str(json.loads(body)["error"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return f"HTTP status {status} {body[:200].decode('utf-8', 'replace')}"


def _make_context(options: ClientOptions) -> ssl.SSLContext:
    if not options.is_encrypted:
        # Trusts nobody; to read the system's authorities for nothing takes long.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return ssl.create_default_context(cafile=options.ca_file)
