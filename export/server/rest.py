"""The REST side: TensorFlow Serving's `/v1/models/...`."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..interface.errors import HTTP_STATUS_OF, ServingError
from ..interface.signatures import Arrays
from .grpc_service import SIGNATURE_DEF, make_metadata, make_status
from .hosts import HostCheck
from .json_bodies import Body, parse_body, read_arrays, write_outputs
from .model_version import ModelVersion
from .predictor import Predictor
from .versions import ModelSpec, ModelVersions

_NUMBER = re.compile("[0-9]{1,18}")


def make_app(
    predictor: Predictor,
    versions: ModelVersions,
    hosts: HostCheck,
    max_body_bytes: int,
    page: Sequence[Route] = (),
) -> ASGIApp:
    """The ASGI application, with the routes of a page beside those of the model."""
    api = _RestApi(predictor, versions, max_body_bytes)
    routes = list(page)
    for version in ("", "/versions/{number}", "/labels/{label}"):
        path = f"/v1/models/{{name}}{version}"
        routes += [
            Route(f"{path}:predict", api.predict, methods=["POST"]),
            Route(f"{path}/metadata", api.describe),
            Route(path, api.tell_status),
        ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            ServingError: lambda request, error: _refuse(error),
            HTTPException: lambda request, error: _answer(error.status_code, error.detail),
            Exception: lambda request, error: _answer(500, "The server failed; its log says why"),
        },
    )

    async def check_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            hosts.require(Request(scope).headers)
        except ServingError as error:
            await _refuse(error)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return check_and_answer


class _RestApi:
    """The answers; see `make_app`."""

    def __init__(self, predictor: Predictor, versions: ModelVersions, max_body_bytes: int) -> None:
        self._predictor = predictor
        self._versions = versions
        self._max_body_bytes = max_body_bytes

    async def predict(self, request: Request) -> Response:
        """Run one signature."""
        data = await _read_body(request, self._max_body_bytes)
        version = self._versions.find(_read_spec(request))
        body, name, arrays = await asyncio.to_thread(_read_request, data, version)
        outputs = await self._predictor.predict(version, name, arrays)
        content = await asyncio.to_thread(write_outputs, outputs, body.is_rows)
        return Response(content, media_type="application/json")

    async def tell_status(self, request: Request) -> Response:
        """Where the versions stand."""
        return JSONResponse(_to_dict(make_status(self._versions, _read_spec(request))))

    async def describe(self, request: Request) -> Response:
        """The signatures of a version."""
        spec = _read_spec(request)
        number, signatures = make_metadata(self._versions, spec)
        return JSONResponse(
            {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(number)},
                "metadata": {SIGNATURE_DEF: _to_dict(signatures)},
            }
        )


async def _read_body(request: Request, max_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise HTTPException(
                413, f"The body must have at most {max_bytes} bytes. Received: more of them"
            )
    return bytes(data)


def _read_request(data: bytes, version: ModelVersion) -> tuple[Body, str, Arrays]:
    body = parse_body(data)
    name, signature = version.find_signature(body.signature_name)
    return body, name, read_arrays(body, name, signature)


def _read_spec(request: Request) -> ModelSpec:
    found = request.path_params
    number = found.get("number")
    if number is not None and not _NUMBER.fullmatch(number):
        raise HTTPException(404)
    return ModelSpec(found["name"], number and int(number), found.get("label", ""))


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _refuse(error: ServingError) -> Response:
    return _answer(HTTP_STATUS_OF.get(error.code, 500), error.message)


def _answer(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


class RestServer:
    """uvicorn in the event loop that runs already, on a socket that is bound at once.

    Attributes:
        port: The port that it is bound to; 0 asks for any free one.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise OSError(
                "The address for REST must be one of this machine, and free. "
                f"Received: {host}:{port} ({error.strerror})"
            ) from error
        self.port = int(self._socket.getsockname()[1])
        options: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_config": None}
        self._server = uvicorn.Server(
            uvicorn.Config(app, access_log=False, proxy_headers=False, **options)
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)
        if self._task.done():
            await self._task

    async def stop(self, grace_seconds: float) -> None:
        """Close the socket; requests in flight have some time."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()
