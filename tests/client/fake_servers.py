"""Servers that answer as TensorFlow Serving does, written with TensorFlow's own conversions.

They share no line with the client, and fail when they are told to.
"""

import base64
import json
import threading
from concurrent import futures
from typing import Any

import grpc
import httpx
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfpqn.export import Searcher
from tfpqn.export.interface.signatures import Signature, TensorInfo

HTTP_STATUS_OF = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}


class Refused(Exception):
    """A status that is no OK."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class FakeModel:
    """A searcher and the definition of its signatures, without a saved model.

    Attributes:
        searcher: What answers.
        signatures: As `SearchClient.signatures` should give them.
        definitions: The same as a proto.
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self._answers: dict[Any, dict[str, np.ndarray]] = {}
        self._functions = {
            name: function.get_concrete_function() for name, function in searcher.signatures.items()
        }
        self._inputs = {
            name: {spec.name: spec for spec in function.structured_input_signature[0]}
            for name, function in self._functions.items()
        }
        self.signatures, self.definitions = {}, get_model_metadata_pb2.SignatureDefMap()
        for name, function in self._functions.items():
            self._describe(name, self._inputs[name], function.structured_outputs)
        hidden = self.definitions.signature_def["__saved_model_init_op"]
        hidden.outputs["__saved_model_init_op"].tensor_shape.unknown_rank = True

    def _describe(self, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        definition = self.definitions.signature_def[name]
        for infos, specs in ((definition.inputs, inputs), (definition.outputs, outputs)):
            for key, spec in specs.items():
                infos[key].name = f"{name}_{key}:0"
                infos[key].dtype = spec.dtype.as_datatype_enum
                infos[key].tensor_shape.CopyFrom(spec.shape.as_proto())
        self.signatures[name] = Signature(*(
            {key: TensorInfo(spec.dtype.name, tuple(spec.shape)) for key, spec in specs.items()}
            for specs in (inputs, outputs)
        ))  # fmt: skip

    def run(self, name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        if name not in self._functions or self._inputs[name].keys() != inputs.keys():
            raise Refused("INVALID_ARGUMENT", f"no signature {name} of {sorted(inputs)}")
        # The same is asked on four ways; TensorFlow need not compute it four times.
        key = (name, repr({key: np.asarray(value).tolist() for key, value in inputs.items()}))
        if key not in self._answers:
            self._answers[key] = self._run(name, inputs)
        return self._answers[key]

    def _run(self, name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        specs = self._inputs[name]
        try:
            tensors = [tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()]
            outputs = self._functions[name](*tensors)
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        return {key: value.numpy() for key, value in outputs.items()}


class Troubles:
    """What goes wrong next, and what has come so far.

    Attributes:
        failures: Statuses with which the next requests are refused; None lets one through.
        is_hanging: Whether requests are held back until `release`.
        metadata: Metadata of each request, by lower-case name.
    """

    def __init__(self) -> None:
        self.failures: list[str | None] = []
        self.is_hanging = False
        self.metadata: list[dict[str, str]] = []
        self.released = threading.Event()

    def meet(self, metadata: dict[str, str]) -> None:
        self.metadata.append(metadata)
        if self.is_hanging:
            self.released.wait(20)
        if self.failures and (code := self.failures.pop(0)):
            raise Refused(code, "told to fail")


class GrpcServer(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Serves models by name over gRPC.

    Attributes:
        address: Where, on loopback.
        troubles: What goes wrong.
        predictions: The `PredictRequest`s that came through.
        num_metadata_requests: How often the signatures were asked for.
    """

    def __init__(self, models: dict[str, FakeModel], credentials: Any = None, port: int = 0):
        self.models = dict(models)
        self.troubles = Troubles()
        self.predictions: list[Any] = []
        self.num_metadata_requests = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        address = f"localhost:{port}"
        if credentials:
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        self.address = f"localhost:{self.port}"

    def __enter__(self) -> "GrpcServer":
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.troubles.released.set()
        self._server.stop(None).wait()

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer(context, self._predict, request)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.num_metadata_requests += 1
        return self._answer(context, self._describe, request)

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer(context, self._report, request)

    def _answer(self, context: Any, method: Any, request: Any) -> Any:
        try:
            self.troubles.meet(dict(context.invocation_metadata()))
            if request.model_spec.name not in self.models:
                raise Refused("NOT_FOUND", "Servable not found")
            return method(self.models[request.model_spec.name], request)
        except Refused as refused:
            context.abort(getattr(grpc.StatusCode, refused.code), refused.message)

    def _predict(self, model: FakeModel, request: Any) -> Any:
        self.predictions.append(request)
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        outputs = model.run(request.model_spec.signature_name or "serving_default", inputs)
        response = predict_pb2.PredictResponse()
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def _describe(self, model: FakeModel, request: Any) -> Any:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        for field in request.metadata_field:
            response.metadata[field].Pack(model.definitions)
        return response

    def _report(self, model: FakeModel, request: Any) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        version = response.model_version_status.add(version=2**40 + 1, state="AVAILABLE")
        version.status.error_message = ""
        failed = response.model_version_status.add(version=2, state="END")
        failed.status.error_code, failed.status.error_message = 3, "no graph"
        return response


class RestWire(httpx.MockTransport, httpx.AsyncBaseTransport):
    """Serves models by name over HTTP, without a network.

    Attributes:
        troubles: What goes wrong.
        requests: All that came.
    """

    def __init__(self, models: dict[str, FakeModel]) -> None:
        self.models = models
        self.troubles = Troubles()
        self.requests: list[httpx.Request] = []
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        try:
            self.troubles.meet(dict(request.headers))
            return httpx.Response(200, content=self._route(request))
        except Refused as refused:
            status = HTTP_STATUS_OF[refused.code]
            return httpx.Response(status, json={"error": refused.message})

    def _route(self, request: httpx.Request) -> bytes:
        path, _, verb = request.url.path.removeprefix("/v1/models/").partition(":")
        name, *fields = path.split("/")
        if name not in self.models:
            raise Refused("NOT_FOUND", "Servable not found")
        model = self.models[name]
        if verb == "predict":
            return self._predict(model, json.loads(request.content))
        if fields[-1:] == ["metadata"]:
            definitions = MessageToDict(model.definitions, preserving_proto_field_name=True)
            content = {"model_spec": {"name": name}, "metadata": {"signature_def": definitions}}
            return json.dumps(content).encode()
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(2**40 + 1), "state": "AVAILABLE", "status": status}
        return json.dumps({"model_version_status": [version]}).encode()

    def _predict(self, model: FakeModel, content: Any) -> bytes:
        signature = model.definitions.signature_def[content["signature_name"]]
        inputs = {}
        for name, values in content["inputs"].items():
            dtype = tf.as_dtype(signature.inputs[name].dtype).as_numpy_dtype
            array = np.array(decode_base64(values), dtype)
            inputs[name] = array
        outputs = model.run(content["signature_name"], inputs)
        values = {name: encode_text(array.tolist()) for name, array in outputs.items()}
        (first, *others) = values.values()
        return json.dumps({"outputs": values if others else first}, ensure_ascii=False).encode()


def decode_base64(values: Any) -> Any:
    if isinstance(values, list):
        return [decode_base64(value) for value in values]
    return base64.b64decode(values["b64"]) if isinstance(values, dict) else values


def encode_text(values: Any) -> Any:
    if isinstance(values, list):
        return [encode_text(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values
