"""The gRPC side: TensorFlow Serving's services, and the standard health service."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
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
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from ..interface.errors import ServingError
from ..interface.tensor_protos import write_values
from .model_version import read_protos
from .predictor import Predictor
from .refusals import bad_request
from .versions import ModelSpec, ModelVersions

logger = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"
# Requests that are in the server at the same time.
_MAX_REQUESTS = 1024


def make_grpc_server(
    predictor: Predictor, versions: ModelVersions, health: Health, max_message_bytes: int
) -> Any:
    """A `grpc.aio` server with bounded messages and requests.

    gRPC itself refuses the other methods of the services as UNIMPLEMENTED.
    """
    service = _Service(predictor, versions)
    methods = {
        PREDICTION_SERVICE: {
            "Predict": _make_handler(PredictRequest, service.predict),
            "GetModelMetadata": _make_handler(GetModelMetadataRequest, service.get_metadata),
        },
        MODEL_SERVICE: {"GetModelStatus": _make_handler(GetModelStatusRequest, service.get_status)},
    }
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A second server on the same port is an error, not a partner.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MAX_REQUESTS)
    handlers = [grpc.method_handlers_generic_handler(*item) for item in methods.items()]
    server.add_generic_rpc_handlers(handlers)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    return server


def _make_handler(message_class: Any, method: Callable[[Any], Awaitable[Any]]) -> Any:
    """The handler of a method.

    It parses the bytes itself: gRPC would answer those that cannot be parsed with a traceback in
    the log.
    """

    async def call(data: bytes, context: Any) -> Any:
        try:
            response = await method(message_class.FromString(data))
            return response.SerializeToString()
        except DecodeError:
            code, message = "INTERNAL", f"The bytes must be a {message_class.DESCRIPTOR.name}"
        except ServingError as error:
            code, message = error.code, error.message
        except Exception:
            logger.exception("A request failed")
            code, message = "INTERNAL", "The server failed; its log says why"
        return await context.abort(grpc.StatusCode[code], message)

    return grpc.unary_unary_rpc_method_handler(call)


class _Service:
    """What TensorFlow Serving's `PredictionService` and `ModelService` answer."""

    def __init__(self, predictor: Predictor, versions: ModelVersions) -> None:
        self._predictor = predictor
        self._versions = versions

    async def predict(self, request: Any) -> Any:
        """Run one signature."""
        spec = request.model_spec
        version = self._versions.find(_read_spec(spec))
        name, signature = version.find_signature(spec.signature_name)
        arrays = read_protos(request.inputs, name, signature)
        outputs = await self._predictor.predict(version, name, arrays)
        response = PredictResponse()
        _write_spec(response.model_spec, spec.name, version.number)
        response.model_spec.signature_name = name
        for key, values in outputs.items():
            write_values(values, response.outputs[key])
        return response

    async def get_metadata(self, request: Any) -> Any:
        """Describe the signatures."""
        fields = list(request.metadata_field)
        if fields != [SIGNATURE_DEF]:
            raise bad_request(f'metadata_field must be ["{SIGNATURE_DEF}"]. Received: {fields}')
        spec = _read_spec(request.model_spec)
        response = GetModelMetadataResponse()
        version, signatures = make_metadata(self._versions, spec)
        _write_spec(response.model_spec, spec.name, version)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    async def get_status(self, request: Any) -> Any:
        """Where the versions stand."""
        return make_status(self._versions, _read_spec(request.model_spec))


class Health:
    """The state that the health service tells: of the whole server, and of each service."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()

    async def set_serving(self, is_serving: bool) -> None:
        """Tell whether a version is available."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if is_serving else states.NOT_SERVING
        for name in ("", PREDICTION_SERVICE, MODEL_SERVICE):
            await self.servicer.set(name, state)


def make_metadata(versions: ModelVersions, spec: ModelSpec) -> tuple[int, Any]:
    """Number of the version that is asked for, and its signatures as a `SignatureDefMap`."""
    version = versions.find(spec)
    signatures = SignatureDefMap()
    for name, definition in version.model.signature_definitions.items():
        signatures.signature_def[name].CopyFrom(definition)
    return version.number, signatures


def make_status(versions: ModelVersions, spec: ModelSpec) -> Any:
    """Where the versions stand as a `GetModelStatusResponse`."""
    response = GetModelStatusResponse()
    for status in versions.statuses(spec):
        proto = response.model_version_status.add(version=status.version)
        proto.state = ModelVersionStatus.State.Value(status.state)
        proto.status.error_code = error_codes_pb2.Code.Value(status.error_code)
        proto.status.error_message = status.error_message
    return response


def _read_spec(proto: Any) -> ModelSpec:
    number = proto.version.value if proto.HasField("version") else None
    return ModelSpec(proto.name, number, proto.version_label)


def _write_spec(proto: Any, name: str, number: int) -> None:
    proto.name = name
    proto.version.value = number
