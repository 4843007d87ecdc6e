"""A server asked over gRPC, by TensorFlow Serving's services."""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from ..interface import messages
from ..interface.signatures import Arrays, Signature
from ..interface.tensor_protos import from_proto, read_signatures, write_values
from ..interface.version_status import VersionStatus
from .errors import Deadline, read_refusal, reading_answer
from .options import ClientOptions

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GET_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_GET_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
# The codes of TensorFlow are those of gRPC.
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

_CHANNEL_ARGUMENTS = (
    # Also makes the system give up a connection whose other end has vanished. A stock server
    # breaks off clients that ping oftener than every five minutes, or without a call.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # No longer blind to a server that is back than the pauses between attempts.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A channel of its own: closing one client must not depend on another.
    ("grpc.use_local_subchannel_pool", 1),
)
# Only UNAVAILABLE is tried again, after random pauses that grow.
_RETRY_POLICY = {
    "initialBackoff": "0.1s",
    "maxBackoff": "5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class GrpcTransport:
    """Asks over a channel of gRPC, which tries again while the server is UNAVAILABLE.

    Args:
        options: Where and how.
        is_async: Whether calls are awaited; else each blocks, and what is awaited is done at once.
    """

    def __init__(self, options: ClientOptions, is_async: bool) -> None:
        self._options = options
        self._is_async = is_async
        # A channel belongs to the event loop that runs when it is opened: at the first call.
        self._channel: Any = None

    async def predict(
        self, name: str, signature: Signature, inputs: Arrays, deadline: Deadline
    ) -> Arrays:
        """Run a signature on arrays that have its names and dtypes."""
        request = messages.PredictRequest()
        request.model_spec.signature_name = name
        for key, array in inputs.items():
            write_values(array, request.inputs[key], as_bytes=True)
        data = await self._call(_PREDICT, request, deadline)
        with reading_answer():
            response = messages.PredictResponse.FromString(data)
            return {key: from_proto(response.outputs[key]) for key in signature.outputs}

    async def signatures(self, deadline: Deadline) -> dict[str, Signature]:
        """The model's signatures by name."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        data = await self._call(_GET_METADATA, request, deadline)
        with reading_answer():
            response = messages.GetModelMetadataResponse.FromString(data)
            packed = response.metadata["signature_def"].value
            return read_signatures(messages.SignatureDefMap.FromString(packed))

    async def model_status(self, deadline: Deadline) -> list[VersionStatus]:
        """The versions that the server knows."""
        data = await self._call(_GET_STATUS, messages.GetModelStatusRequest(), deadline)
        with reading_answer():
            response = messages.GetModelStatusResponse.FromString(data)
            return [
                VersionStatus(
                    version.version,
                    messages.STATES[version.state],
                    _CODES[version.status.error_code],
                    version.status.error_message,
                )
                for version in response.model_version_status
            ]

    def with_options(self, options: ClientOptions) -> GrpcTransport:
        """The same with another version, on the same channel."""
        self._open()
        other = copy.copy(self)
        other._options = options
        return other

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            closing = self._channel.close()
            if self._is_async:
                await closing

    async def _call(self, method: str, request: Any, deadline: Deadline) -> bytes:
        request.model_spec.name = self._options.model
        if self._options.version is not None:
            request.model_spec.version.value = self._options.version
        if self._options.version_label is not None:
            request.model_spec.version_label = self._options.version_label
        try:
            answer = self._open().unary_unary(method)(
                request.SerializeToString(),
                timeout=deadline.remaining(),
                metadata=self._options.headers,
            )
            return await answer if self._is_async else answer
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
            raise read_refusal(code, details, self._options.address) from error

    def _open(self) -> Any:
        if self._channel is None:
            self._channel = _open_channel(grpc.aio if self._is_async else grpc, self._options)
        return self._channel


def _open_channel(library: Any, options: ClientOptions) -> Any:
    """A channel of `grpc` or of `grpc.aio`; it connects when it is first used."""
    arguments = [*_CHANNEL_ARGUMENTS, *_arguments_of(options)]
    if not options.is_encrypted:
        return library.insecure_channel(options.address, options=arguments)
    ca_file = options.ca_file or ssl.get_default_verify_paths().cafile
    trusted = Path(ca_file).read_bytes() if ca_file else None
    credentials = grpc.ssl_channel_credentials(trusted)
    return library.secure_channel(options.address, credentials, options=arguments)


def _arguments_of(options: ClientOptions) -> Iterator[tuple[str, Any]]:
    yield "grpc.max_send_message_length", options.max_message_bytes
    yield "grpc.max_receive_message_length", options.max_message_bytes
    # Larger requests than this are not sent again.
    yield "grpc.per_rpc_retry_buffer_size", options.max_message_bytes
    yield "grpc.enable_http_proxy", int(not options.is_local)
    yield "grpc.enable_retries", int(options.max_attempts > 1)
    if options.max_attempts > 1:
        policy = {**_RETRY_POLICY, "maxAttempts": options.max_attempts}
        config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
        yield "grpc.service_config", json.dumps(config)
