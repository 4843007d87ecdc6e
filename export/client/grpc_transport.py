"""Questions over gRPC, by the services of tensorflow-serving-api."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from ..interface.tensor_protos import from_proto, read_signature, to_proto
from .errors import INTERNAL, ServingError, read_refusal
from .options import ClientOptions, TlsOptions
from .questions import Arrays, GetStatus, Predict, Question, Signatures, VersionStatus

# TensorFlow runs these itself.
_HIDDEN = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


class GrpcTransport:
    """Asks over a channel of gRPC and waits.

    Args:
        options: Where and how.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._channel = _open_channel(grpc, options)
        self._methods = _Methods(self._channel)

    def send(self, question: Question, timeout: float) -> Any:
        """Put the question once; ServingError if it is refused or not answered in time."""
        request = make_request(question, self._options)
        method = self._methods.find(request)
        try:
            response = method(request, timeout=timeout, metadata=self._options.headers)
        except grpc.RpcError as error:
            raise _read_error(error, self._options) from error
        return read_response(response)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncGrpcTransport:
    """Asks over a channel of gRPC and awaits.

    Args:
        options: Where and how.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        # A channel belongs to the event loop that runs when it is opened: at the first question.
        self._channel: Any = None
        self._methods: _Methods | None = None

    async def send(self, question: Question, timeout: float) -> Any:
        """Put the question once; ServingError if it is refused or not answered in time."""
        request = make_request(question, self._options)
        method = self._open().find(request)
        try:
            response = await method(request, timeout=timeout, metadata=self._options.headers)
        except grpc.RpcError as error:
            raise _read_error(error, self._options) from error
        return read_response(response)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> _Methods:
        if self._methods is None:
            self._channel = _open_channel(grpc.aio, self._options)
            self._methods = _Methods(self._channel)
        return self._methods


class _Methods:
    """The servers' methods by the request that each takes."""

    def __init__(self, channel: Any) -> None:
        prediction, model = PredictionServiceStub(channel), ModelServiceStub(channel)
        self._by_request = {
            PredictRequest: prediction.Predict,
            GetModelMetadataRequest: prediction.GetModelMetadata,
            GetModelStatusRequest: model.GetModelStatus,
        }

    def find(self, request: Message) -> Any:
        return self._by_request[type(request)]


def make_request(question: Question, options: ClientOptions) -> Message:
    """The question as a proto."""
    if isinstance(question, Predict):
        request = PredictRequest()
        request.model_spec.signature_name = question.signature_name
        for name, array in question.inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
    elif isinstance(question, GetStatus):
        request = GetModelStatusRequest()
    else:
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = options.model
    if options.version is not None:
        request.model_spec.version.value = options.version
    if options.version_label is not None:
        request.model_spec.version_label = options.version_label
    return request


def read_response(response: Message) -> Any:
    """The answer that a proto holds.

    Raises:
        ServingError: It cannot be read.
    """
    try:
        if isinstance(response, PredictResponse):
            return _read_outputs(response)
        if isinstance(response, GetModelStatusResponse):
            return read_statuses(response)
        return _read_metadata(response)
    except (DecodeError, ValueError) as error:
        raise ServingError(INTERNAL, f"the answer cannot be read: {error}") from error


def _read_outputs(response: Any) -> Arrays:
    return {name: from_proto(proto) for name, proto in response.outputs.items()}


def read_statuses(response: Any) -> list[VersionStatus]:
    """States of all versions that the proto names."""
    return [
        VersionStatus(
            version.version,
            ModelVersionStatus.State.Name(version.state),
            error_codes_pb2.Code.Name(version.status.error_code),
            version.status.error_message,
        )
        for version in response.model_version_status
    ]


def _read_metadata(response: GetModelMetadataResponse) -> Signatures:
    definitions = SignatureDefMap()
    if not response.metadata["signature_def"].Unpack(definitions):
        raise ValueError("expected the metadata signature_def. Received: others")
    return read_signatures(definitions)


def read_signatures(definitions: Any) -> Signatures:
    """Signatures by name out of a SignatureDefMap, without those of TensorFlow itself."""
    names = sorted(set(definitions.signature_def) - _HIDDEN)
    return {name: read_signature(definitions.signature_def[name]) for name in names}


def _read_error(error: Any, options: ClientOptions) -> ServingError:
    return read_refusal(error.code().name, error.details() or "", options.address)


def _open_channel(library: Any, options: ClientOptions) -> Any:
    """A channel of `grpc` or of `grpc.aio`; it connects when it is first used."""
    arguments = _channel_arguments(options)
    if not options.is_encrypted:
        return library.insecure_channel(options.address, options=arguments)
    return library.secure_channel(
        options.address, _read_credentials(options.tls_options), options=arguments
    )


def _channel_arguments(options: ClientOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        # Also makes the system give up a connection whose other end has vanished. A stock server
        # breaks off clients that ping oftener than every five minutes, or without a call.
        ("grpc.keepalive_time_ms", int(options.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # One rule for trying again, ours; and no longer blind to a server that is back than it.
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_http_proxy", int(not options.is_local)),
        # A channel of its own: closing one client must not depend on another.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if options.is_encrypted and options.tls_options.server_name:
        arguments.append(("grpc.ssl_target_name_override", options.tls_options.server_name))
    return arguments


def _read_credentials(tls: TlsOptions) -> Any:
    ca_file = tls.ca_file or ssl.get_default_verify_paths().cafile
    return grpc.ssl_channel_credentials(
        _read(ca_file), _read(tls.key_file), _read(tls.certificate_file)
    )


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
