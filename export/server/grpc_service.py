"""The gRPC side: TensorFlow Serving's services, and the standard health service."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
)

from ..interface.tensor_protos import write_values
from .bodies import Bodies
from .errors import ServingError, as_serving_error
from .metrics import Metrics
from .model_version import DEFAULT_SIGNATURE, read_inputs_of_any_size
from .predictor import ModelSpec, Prediction, Predictor
from .versions import VersionStatus

__all__ = ["Health", "add_services", "make_grpc_server"]

logger = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"
ONLY_PREDICT = (
    "The model has no signature for {method}: it searches images or embeddings, not tf.Examples. "
    "Use Predict; GetModelMetadata lists the signatures"
)


def make_grpc_server(max_message_bytes: int, max_requests: int) -> Any:
    """A `grpc.aio` server with bounded messages and requests, and without services yet."""
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A second server on the same port is an error, not a partner.
        ("grpc.so_reuseport", 0),
        # Clients may keep idle connections alive.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.http2.bdp_probe", 0),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=max_requests)


def add_services(
    server: Any, predictor: Predictor, metrics: Metrics, health: Health, bodies: Bodies
) -> None:
    """Register all services."""
    for descriptor, service in (
        (prediction_service_pb2.DESCRIPTOR, PredictionService(predictor, metrics)),
        (model_service_pb2.DESCRIPTOR, ModelService(predictor)),
    ):
        for description in descriptor.services_by_name.values():
            server.add_generic_rpc_handlers((_make_handlers(description, service, bodies),))
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)


def _make_handlers(description: Any, service: Any, bodies: Bodies) -> Any:
    """Handlers of a service's methods.

    To gRPC they take streams, though clients send one message each: so the server says when a
    message is received, which it bounds. Those of the generated code would also answer bytes that
    cannot be parsed with UNKNOWN and a traceback in the log; the stock server answers INTERNAL.
    """
    handlers = {
        method.name: grpc.stream_unary_rpc_method_handler(
            _make_handler(
                getattr(service, method.name), GetMessageClass(method.input_type), bodies
            ),
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in description.methods
    }
    return grpc.method_handlers_generic_handler(description.full_name, handlers)


def _make_handler(method: Callable[..., Awaitable[Any]], message_class: Any, bodies: Bodies) -> Any:
    async def answer(context: Any) -> Any:
        with bodies.hold() as hold:
            try:
                data = await bodies.receive(context.read)
                hold(0 if data is grpc.aio.EOF else len(data))
                request = _parse(message_class, data)
                del data
                return await method(request)
            except Exception as error:
                return _as_refusal(error)

    async def call(_: Any, context: Any) -> Any:
        response = await answer(context)
        if isinstance(response, ServingError):
            # Here, because gRPC keeps the error that this raises, and the request would stay with
            # it if it were in sight.
            await context.abort(grpc.StatusCode[response.code], response.message)
        return response

    return call


def _parse(message_class: Any, data: Any) -> Any:
    try:
        return message_class.FromString(data)
    except (DecodeError, TypeError):  # no message at all is no bytes
        name = message_class.DESCRIPTOR.name
        raise ServingError("INTERNAL", f"The bytes must be a {name}") from None


def _as_refusal(error: Exception) -> ServingError:
    refusal = as_serving_error(error)
    if refusal is None:
        logger.error("A request failed", exc_info=error)
        refusal = ServingError("INTERNAL", "The server failed; its log says why")
    return refusal


class PredictionService:
    """`tensorflow.serving.PredictionService`.

    Args:
        predictor: What answers.
        metrics: What counts.
    """

    def __init__(self, predictor: Predictor, metrics: Metrics) -> None:
        self._predictor = predictor
        self._metrics = metrics

    async def Predict(self, request: Any) -> Any:
        """Run one signature."""
        start, status = time.perf_counter(), "CANCELLED"
        try:
            response = await self._predict(request)
            status = "OK"
            return response
        except Exception as error:
            refusal = as_serving_error(error)
            status = refusal.code if refusal else "INTERNAL"
            raise
        finally:
            seconds = time.perf_counter() - start
            self._metrics.count_request("GRPC", request.model_spec.name, status, seconds)

    async def _predict(self, request: Any) -> Any:
        spec = request.model_spec
        with self._predictor.using(_read_spec(spec)) as version:
            checker = version.checker(spec.signature_name)
            if checker is None:
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f'Serving signature key "{spec.signature_name}" not found. '
                    f"Expected one of {sorted(version.checkers)}",
                )
            checker.check_output_filter(request.output_filter)
            arrays, rows = await read_inputs_of_any_size(request, checker)
            prediction = await self._predictor.predict(
                version, checker, arrays, rows, request.output_filter
            )
        return _make_response(spec.name, prediction)

    async def GetModelMetadata(self, request: Any) -> Any:
        """Describe the signatures."""
        fields = list(request.metadata_field)
        if fields != [SIGNATURE_DEF]:
            raise ServingError(
                "INVALID_ARGUMENT",
                f'metadata_field must be ["{SIGNATURE_DEF}"]. Received: {fields}',
            )
        return make_metadata(self._predictor, _read_spec(request.model_spec))

    async def Classify(self, request: Any) -> Any:
        """Refused: the model has no such signature."""
        self._refuse(request.model_spec, "Classify")

    async def Regress(self, request: Any) -> Any:
        """Refused: the model has no such signature."""
        self._refuse(request.model_spec, "Regress")

    async def MultiInference(self, request: Any) -> Any:
        """Refused: the model has no such signature."""
        specs = [task.model_spec for task in request.tasks[:1]]
        self._refuse(specs[0] if specs else None, "MultiInference")

    def _refuse(self, spec: Any, method: str) -> None:
        if spec is not None:
            self._predictor.find(_read_spec(spec))
        raise only_predict(method)


class ModelService:
    """`tensorflow.serving.ModelService`.

    Args:
        predictor: What knows the versions.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def GetModelStatus(self, request: Any) -> Any:
        """Where the versions stand."""
        return make_status(self._predictor, _read_spec(request.model_spec))

    async def HandleReloadConfigRequest(self, request: Any) -> Any:
        """Refused: there is one model, and its folder is watched."""
        raise ServingError(
            "UNIMPLEMENTED",
            "This server has one model and watches its folder. Write a new version there",
        )


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


def only_predict(method: str) -> ServingError:
    """The refusal of what needs `tf.Example` signatures."""
    return ServingError("INVALID_ARGUMENT", ONLY_PREDICT.format(method=method))


def make_metadata(predictor: Predictor, spec: ModelSpec) -> Any:
    """The signatures of a version as a `GetModelMetadataResponse`.

    Raises:
        ServingError: The version is not there.
    """
    version = predictor.find(spec)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = version.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in version.model.signature_definitions.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def make_status(predictor: Predictor, spec: ModelSpec) -> Any:
    """Where the versions stand as a `GetModelStatusResponse`.

    Raises:
        ServingError: The model or the version is unknown.
    """
    if spec.name != predictor.versions.name and spec.name:
        raise ServingError("NOT_FOUND", f"Could not find any versions of model {spec.name}")
    predictor.require_model(spec.name)
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in predictor.versions.statuses(spec.number, spec.label):
        _write_status(status, response.model_version_status.add())
    return response


def _write_status(status: VersionStatus, proto: Any) -> None:
    proto.version = status.number
    proto.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
    proto.status.error_code = (
        proto.status.DESCRIPTOR.fields_by_name["error_code"]
        .enum_type.values_by_name[status.error_code]
        .number
    )
    proto.status.error_message = status.error_message


def _read_spec(proto: Any) -> ModelSpec:
    number = proto.version.value if proto.HasField("version") else None
    return ModelSpec(proto.name, number, proto.version_label)


def _make_response(name: str, prediction: Prediction) -> Any:
    response = predict_pb2.PredictResponse()
    spec = response.model_spec
    spec.name = name
    spec.version.value = prediction.number
    spec.signature_name = prediction.signature_name or DEFAULT_SIGNATURE
    for key, array in prediction.outputs.items():
        write_values(array, response.outputs[key])
    return response
