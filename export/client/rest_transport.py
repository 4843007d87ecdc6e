"""Questions over TensorFlow Serving's REST interface."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
from google.protobuf.json_format import ParseDict, ParseError
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from .errors import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    ServingError,
    code_of_http_status,
    read_refusal,
)
from .grpc_transport import read_signatures, read_statuses
from .options import ClientOptions
from .questions import Arrays, GetStatus, Predict, Question, Signatures
from .retries import Deadline
from .tensor_json import from_values, to_values

HttpClient = TypeVar("HttpClient", httpx.Client, httpx.AsyncClient)
# Of TLS some errors come as Python's own, which are OSError.
_FAILURES = (httpx.HTTPError, OSError, asyncio.TimeoutError)


class Request(NamedTuple):
    """A question as HTTP."""

    method: str
    url: str
    body: bytes | None


class RestTransport:
    """Asks over HTTP and waits.

    The clock is read between the parts of an answer's body. A server that stops in the middle of
    one can hold the call for up to twice its timeout, one that sends its headers in drops longer;
    `AsyncRestTransport` and gRPC end in time whatever comes.

    Args:
        options: Where and how.
        wire: What carries the requests, in place of the network.
    """

    def __init__(self, options: ClientOptions, wire: httpx.BaseTransport | None = None) -> None:
        self._options = options
        self._client = _make_client(httpx.Client, options, wire)

    def send(self, question: Question, timeout: float) -> Any:
        """Put the question once; ServingError if it is refused or not answered in time."""
        request = make_request(question, self._options)
        body = _Body(self._options.max_message_bytes, timeout)
        try:
            with self._client.stream(
                request.method, request.url, **_arguments(request, self._options, timeout)
            ) as response:
                for part in response.iter_bytes():
                    body.add(part)
        except _FAILURES as error:
            raise _read_error(error, self._options) from error
        return read_response(question, response.status_code, body.join(), self._options)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


class AsyncRestTransport:
    """Asks over HTTP and awaits.

    Args:
        options: Where and how.
        wire: What carries the requests, in place of the network.
    """

    def __init__(
        self, options: ClientOptions, wire: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._options = options
        self._client = _make_client(httpx.AsyncClient, options, wire)

    async def send(self, question: Question, timeout: float) -> Any:
        """Put the question once; ServingError if it is refused or not answered in time."""
        request = make_request(question, self._options)
        body = _Body(self._options.max_message_bytes, timeout)
        try:
            status = await asyncio.wait_for(self._exchange(request, body, timeout), timeout)
        except _FAILURES as error:
            raise _read_error(error, self._options) from error
        return read_response(question, status, body.join(), self._options)

    async def _exchange(self, request: Request, body: _Body, timeout: float) -> int:
        async with self._client.stream(
            request.method, request.url, **_arguments(request, self._options, timeout)
        ) as response:
            async for part in response.aiter_bytes():
                body.add(part)
        return response.status_code

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class _Body:
    """An answer that comes in parts, within the bounds of size and time."""

    def __init__(self, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._deadline = Deadline(timeout, time.monotonic)
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def add(self, part: bytes) -> None:
        self._deadline.require()
        self._num_bytes += len(part)
        if self._num_bytes > self._max_bytes:
            raise ServingError(
                RESOURCE_EXHAUSTED,
                f"expected an answer of at most {self._max_bytes} bytes. Received more",
            )
        self._parts.append(part)

    def join(self) -> bytes:
        return b"".join(self._parts)


def make_request(question: Question, options: ClientOptions) -> Request:
    """The question as HTTP, in the column format."""
    url = f"{options.url}/v1/models/{quote(options.model, safe='')}"
    if options.version is not None:
        url += f"/versions/{options.version}"
    if options.version_label is not None:
        url += f"/labels/{quote(options.version_label, safe='')}"
    if not isinstance(question, Predict):
        return Request("GET", url if isinstance(question, GetStatus) else f"{url}/metadata", None)
    inputs = {name: to_values(array) for name, array in question.inputs.items()}
    body = json.dumps({"signature_name": question.signature_name, "inputs": inputs}).encode()
    if len(body) > options.max_message_bytes:
        raise ServingError(
            RESOURCE_EXHAUSTED,
            f"expected a request of at most {options.max_message_bytes} bytes. "
            f"Received: {len(body)}",
        )
    return Request("POST", f"{url}:predict", body)


def read_response(question: Question, status: int, body: bytes, options: ClientOptions) -> Any:
    """The answer that an HTTP response holds.

    Raises:
        ServingError: It is a refusal, or cannot be read.
    """
    if status != 200:
        raise read_refusal(code_of_http_status(status), _read_reason(status, body), options.address)
    try:
        content = json.loads(body)
        if isinstance(question, Predict):
            return _read_outputs(question, content)
        if isinstance(question, GetStatus):
            return read_statuses(ParseDict(content, GetModelStatusResponse()))
        return _read_metadata(content)
    except (
        AttributeError, KeyError, OverflowError, ParseError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {error}"
        raise ServingError(INTERNAL, f"the answer cannot be read: {reason}") from error


def _read_reason(status: int, body: bytes) -> str:
    """The sentence in TensorFlow Serving's JSON, or of whoever else answers the beginning."""
    try:
        return str(json.loads(body)["error"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return f"HTTP status {status} {body[:200].decode('utf-8', 'replace')}"


def _read_outputs(question: Predict, content: Any) -> Arrays:
    infos = question.signature.outputs
    # A single output comes without its name.
    outputs = content["outputs"] if len(infos) > 1 else {next(iter(infos)): content["outputs"]}
    return {name: from_values(outputs[name], info) for name, info in infos.items()}


def _read_metadata(content: Any) -> Signatures:
    definitions = dict(content["metadata"]["signature_def"])
    definitions.pop("@type", None)
    return read_signatures(ParseDict(definitions, SignatureDefMap(), ignore_unknown_fields=True))


def _read_error(error: Exception, options: ClientOptions) -> ServingError:
    details = str(error) or type(error).__name__
    code = "UNKNOWN"
    if isinstance(error, (httpx.TimeoutException, asyncio.TimeoutError)):
        code = DEADLINE_EXCEEDED
    elif isinstance(
        error, (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError, OSError)
    ):
        # To ask twice does no harm, as with gRPC: a connection that broke counts as no server.
        code = UNAVAILABLE
    return read_refusal(code, details, options.url)


def _make_client(make: Callable[..., HttpClient], options: ClientOptions, wire: Any) -> HttpClient:
    return make(
        headers=[*options.headers, ("accept-encoding", "identity")],
        verify=_make_context(options),
        trust_env=not options.is_local,
        transport=wire,
    )


def _make_context(options: ClientOptions) -> ssl.SSLContext:
    if not options.is_encrypted:
        # Trusts nobody; to read the system's authorities for nothing takes long.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = options.tls_options
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.certificate_file:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context


def _arguments(request: Request, options: ClientOptions, timeout: float) -> dict[str, Any]:
    name = options.tls_options.server_name if options.is_encrypted else None
    return {
        "content": request.body,
        "headers": {"content-type": "application/json"} if request.body else {},
        "timeout": timeout,
        "extensions": {"sni_hostname": name} if name else {},
    }
