"""The REST side: TensorFlow Serving's `/v1/models/...`, and the metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from ..interface.signatures import Arrays
from .bodies import Bodies, decompress, too_large
from .errors import ServingError, as_serving_error
from .grpc_service import SIGNATURE_DEF, make_metadata, make_status, only_predict
from .hosts import HostCheck
from .json_tensors import Body, parse_body, read_arrays, write_outputs
from .metrics import Metrics
from .predictor import ModelSpec, Predictor
from .validation import SignatureChecker

__all__ = ["make_app"]

logger = logging.getLogger(__name__)

METRICS_PATH = "/monitoring/prometheus/metrics"
_PREDICTION_PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.I
)
_STATUS_PATH = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?", re.I
)
# Larger bodies are parsed, and larger answers written, in a thread.
_LARGE_BYTES = 2**16
_LARGE_SIZE = 2**13


def make_app(predictor: Predictor, metrics: Metrics, hosts: HostCheck, bodies: Bodies) -> ASGIApp:
    """The ASGI application.

    Args:
        predictor: What answers.
        metrics: What counts, and is shown.
        hosts: Names that requests may have for the server.
        bodies: Bounds of what requests hold.
    """
    api = _RestApi(predictor, metrics, hosts, bodies)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await api.answer(Request(scope, receive))
        await response(scope, receive, send)

    return app


class _RestApi:
    """The answers; see `make_app`."""

    def __init__(
        self, predictor: Predictor, metrics: Metrics, hosts: HostCheck, bodies: Bodies
    ) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._hosts = hosts
        self._bodies = bodies

    async def answer(self, request: Request) -> Response:
        """The answer to any request."""
        try:
            self._hosts.require(request.headers)
            return await self._answer(request)
        except ClientDisconnect:
            return _refuse(499, "The client closed the connection")
        except Exception as error:
            refusal = as_serving_error(error)
            if refusal is None:
                logger.error("A request failed", exc_info=error)
                refusal = ServingError("INTERNAL", "The server failed; its log says why")
            return _refuse(refusal.http_status, refusal.message)

    async def _answer(self, request: Request) -> Response:
        # The path as it was sent: a name may hold an escaped slash.
        path = request.scope["raw_path"].decode("ascii", "replace").split("?")[0]
        if request.method == "POST" and (match := _PREDICTION_PATH.fullmatch(path)):
            spec, method = _read_spec(match), match[4].lower()
            if method == "predict":
                return await self._count(request, spec)
            self._predictor.find(spec)
            raise only_predict(method.capitalize())
        is_read = request.method in ("GET", "HEAD")
        if is_read and path == METRICS_PATH:
            return Response(self._metrics.write(), media_type="text/plain; version=0.0.4")
        if is_read and (match := _STATUS_PATH.fullmatch(path)):
            spec = _read_spec(match)
            return self._describe(spec) if match[4] else self._tell_status(spec)
        if not path.lower().startswith("/v1/"):
            return _refuse(404, "Not found. Expected /v1/models/NAME")
        raise ServingError("INVALID_ARGUMENT", f"Malformed request: {request.method} {path}")

    async def _count(self, request: Request, spec: ModelSpec) -> Response:
        start, status = time.perf_counter(), "CANCELLED"
        try:
            response = await self._predict(request, spec)
            status = "OK"
            return response
        except Exception as error:
            refusal = as_serving_error(error)
            status = refusal.code if refusal else "UNKNOWN"
            raise
        finally:
            seconds = time.perf_counter() - start
            self._metrics.count_request("REST", spec.name, status, seconds)

    async def _predict(self, request: Request, spec: ModelSpec) -> Response:
        with self._bodies.hold() as hold:
            data = await self._read(request, hold)
            body = await _in_thread_if(len(data) > _LARGE_BYTES, parse_body, data)
            with self._predictor.using(spec) as version:
                checker = version.checker(body.signature_name)
                if checker is None:
                    raise ServingError(
                        "INVALID_ARGUMENT",
                        f'Serving signature name: "{body.signature_name}" not found in signature '
                        f"def. Expected one of {sorted(version.checkers)}",
                    )
                arrays, rows = await _in_thread_if(
                    len(data) > _LARGE_BYTES, _read_inputs, body, checker
                )
                del data
                prediction = await self._predictor.predict(version, checker, arrays, rows)
            size = sum(array.size for array in prediction.outputs.values())
            text = await _in_thread_if(
                size > _LARGE_SIZE, write_outputs, prediction.outputs, body.is_rows
            )
        return Response(text, media_type="application/json")

    async def _read(self, request: Request, hold: Callable[[int], None]) -> bytes:
        """The body, decompressed.

        Raises:
            ServingError: It is too large, not what its headers say, or the server holds too much.
        """
        max_bytes = self._bodies.max_bytes
        length = request.headers.get("content-length", "")
        # The rest of a body that is refused is passed over, so that its sender sees the answer.
        if length.isdigit() and int(length[:20]) > max_bytes:
            raise too_large(max_bytes)
        data = bytearray()
        async for chunk in request.stream():
            if len(data) + len(chunk) > max_bytes:
                raise too_large(max_bytes)
            hold(len(chunk))
            data += chunk
        if request.headers.get("content-encoding", "").strip().lower() != "gzip":
            return bytes(data)
        content = await asyncio.to_thread(decompress, data, max_bytes)
        hold(len(content))
        return content

    def _tell_status(self, spec: ModelSpec) -> Response:
        return JSONResponse(_to_dict(make_status(self._predictor, spec)))

    def _describe(self, spec: ModelSpec) -> Response:
        response = make_metadata(self._predictor, spec)
        signatures = SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        return JSONResponse(
            {
                "model_spec": _to_dict(response.model_spec),
                "metadata": {SIGNATURE_DEF: _to_dict(signatures)},
            }
        )


def _read_inputs(body: Body, checker: SignatureChecker) -> tuple[Arrays, int]:
    """Arrays and number of rows of a parsed body, as `model_version.read_inputs` for gRPC."""
    arrays = read_arrays(body, checker.inputs)
    for name, array in arrays.items():
        checker.check_tensor(name, checker.inputs[name].dtype, array.shape)
    return arrays, checker.check_values(arrays)


async def _in_thread_if(is_long: bool, function: Any, *arguments: Any) -> Any:
    """Call a function, in a thread if it may take long."""
    if is_long:
        return await asyncio.to_thread(function, *arguments)
    return function(*arguments)


def _read_spec(match: re.Match[str]) -> ModelSpec:
    name, number, label = unquote(match[1] or ""), match[2], unquote(match[3] or "")
    if number is not None and (len(number) > 19 or int(number) >= 2**63):
        raise ServingError(
            "INVALID_ARGUMENT", f"Failed to convert version: {number[:40]} to numeric."
        )
    return ModelSpec(name, None if number is None else int(number), label)


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _refuse(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
