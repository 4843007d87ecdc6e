"""The REST side: TensorFlow Serving's `/v1/models/...`, and the metrics.

With a token every path needs it, the metrics included.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from ..loaders import Arrays
from .errors import ServingError, as_serving_error
from .grpc_service import SIGNATURE_DEF, make_metadata, make_status, only_predict
from .json_tensors import Body, parse_body, read_arrays, write_outputs
from .metrics import Metrics
from .predictor import ModelSpec, Predictor
from .security import TokenCheck
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
# Bodies being read or answered hold at most so many times the largest body.
_MAX_BODIES = 4
# Of a body that is too large so many times the largest one is read and forgotten.
_MAX_FORGOTTEN = 16
_BODY_SECONDS = 60.0


def make_app(
    predictor: Predictor, metrics: Metrics, token: TokenCheck, max_body_bytes: int
) -> Starlette:
    """The ASGI application.

    Args:
        predictor: What answers.
        metrics: What counts, and is shown.
        token: What callers must send.
        max_body_bytes: Largest body of a request.
    """
    api = _RestApi(predictor, metrics, token, max_body_bytes)
    return Starlette(
        routes=[
            Route(METRICS_PATH, api.answer_metrics, methods=["GET"]),
            Route("/{path:path}", api.answer, methods=["GET", "POST"]),
        ]
    )


class _RestApi:
    """The routes; see `make_app`."""

    def __init__(
        self, predictor: Predictor, metrics: Metrics, token: TokenCheck, max_body_bytes: int
    ) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._token = token
        self._bodies = _Bodies(max_body_bytes)

    async def answer_metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        if not self._token.accepts(request.headers.get("authorization")):
            return _refuse_token()
        return Response(self._metrics.write(), media_type="text/plain; version=0.0.4")

    async def answer(self, request: Request) -> Response:
        """Everything else."""
        if not self._token.accepts(request.headers.get("authorization")):
            return _refuse_token()
        try:
            return await self._answer(request)
        except ClientDisconnect:
            return _refuse(499, "The client closed the connection")
        except _HttpError as error:
            return error.response
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
        if request.method != "POST" and (match := _STATUS_PATH.fullmatch(path)):
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
        with self._bodies.reserve() as reservation:
            data = await self._bodies.read(request, reservation)
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


class _HttpError(Exception):
    """A refusal that has a status of HTTP alone."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        # The rest of the body is not read, so the connection cannot be used again.
        self.response = _refuse(status, message, {"connection": "close"})


class _Bodies:
    """Reads bodies within bounds: of each, and of all that are in the server together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0

    @contextlib.contextmanager
    def reserve(self) -> Iterator[list[int]]:
        """Give back what `read` took when the block ends."""
        reservation = [0]
        try:
            yield reservation
        finally:
            self._num_bytes -= reservation[0]

    async def read(self, request: Request, reservation: list[int]) -> bytes:
        """The body.

        Raises:
            _HttpError: It is too large, takes too long, or the server holds too much already.
        """
        length = request.headers.get("content-length", "")
        is_too_large = length.isdigit() and int(length[:20]) > self._max_bytes
        if is_too_large and "expect" in request.headers:
            # The client waits to be asked for the body.
            raise self._too_large()
        try:
            return await asyncio.wait_for(
                self._read(request, reservation, is_too_large), _BODY_SECONDS
            )
        except asyncio.TimeoutError:
            raise _HttpError(408, f"The body must come within {_BODY_SECONDS:g} s") from None

    async def _read(self, request: Request, reservation: list[int], is_too_large: bool) -> bytes:
        data, num_bytes = bytearray(), 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if is_too_large or num_bytes > self._max_bytes:
                # Whoever is cut off while sending does not see the answer; so the rest is read
                # and forgotten, unless there is no end to it.
                data, is_too_large = bytearray(), True
                if num_bytes > _MAX_FORGOTTEN * self._max_bytes:
                    break
                continue
            data += chunk
            reservation[0] += len(chunk)
            self._num_bytes += len(chunk)
            if self._num_bytes > _MAX_BODIES * self._max_bytes:
                raise _HttpError(503, "The server holds too many large requests. Try again later")
        if is_too_large:
            raise self._too_large()
        return bytes(data)

    def _too_large(self) -> _HttpError:
        return _HttpError(413, f"The body must have at most {self._max_bytes} bytes")


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


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


def _refuse_token() -> Response:
    headers = {"www-authenticate": "Bearer", "connection": "close"}
    return _refuse(401, "The request must carry the server's bearer token", headers)
