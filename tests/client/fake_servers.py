"""Servers with a model of one line, which fail as they are told to.

They speak by the published protos and TensorFlow's own conversions, and share no line with the
client.
"""

import json
import time
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

HTTP_STATUS_OF = {"INVALID_ARGUMENT": 400, "UNAVAILABLE": 503, "INTERNAL": 500, "UNKNOWN": 418}
NEWEST = 2**40 + 1


class Refused(Exception):
    """A status that is no OK."""


class FakeModel:
    """Finds, of an embedding `[width]`, its first numbers as ids; and what goes wrong next.

    Attributes:
        width, num_found: Shapes of input and outputs.
        failures: Statuses with which the next requests are refused; None lets one through.
        seconds: How long each request takes.
        metadata: Of each request, by lower-case name.
        asked: Kind of each request, with the number of rows and the version for predictions.
    """

    def __init__(self) -> None:
        self.width, self.num_found, self.seconds = 4, 3, 0.0
        self.failures: list[str | None] = []
        self.metadata: list[dict[str, str]] = []
        self.asked: list[Any] = []

    def meet(self, kind: Any, metadata: dict[str, str]) -> None:
        self.asked.append(kind)
        self.metadata.append(metadata)
        time.sleep(self.seconds)
        if self.failures and (code := self.failures.pop(0)):
            raise Refused(code)

    def run(self, signature: str, version: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.search(inputs["embeddings"])

    @property
    def states(self) -> dict[int, str]:
        return {NEWEST: "AVAILABLE", 2: "END"}

    def search(self, embeddings: np.ndarray) -> dict[str, np.ndarray]:
        found = embeddings[:, : self.num_found]
        return {"ids": found.astype(np.int64), "scores": found.astype(np.float32)}

    @property
    def definitions(self) -> Any:
        map_ = get_model_metadata_pb2.SignatureDefMap()
        definition = map_.signature_def["search_by_embedding"]
        for infos, name, dtype, size in (
            (definition.inputs, "embeddings", tf.float32, self.width),
            (definition.outputs, "ids", tf.int64, 3),
            (definition.outputs, "scores", tf.float32, 3),
        ):
            infos[name].dtype = dtype.as_datatype_enum
            infos[name].tensor_shape.CopyFrom(tf.TensorShape([None, size]).as_proto())
        hidden = map_.signature_def["__saved_model_init_op"]
        hidden.outputs["__saved_model_init_op"].tensor_shape.unknown_rank = True
        return map_


class GrpcServer(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Serves over gRPC at `address`; `model` says what goes wrong."""

    def __init__(self, credentials: Any = None, port: int = 0, model: Any = None) -> None:
        self.model = model or FakeModel()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        if credentials:
            self.port = self._server.add_secure_port(f"localhost:{port}", credentials)
        else:
            self.port = self._server.add_insecure_port(f"localhost:{port}")
        self.address = f"localhost:{self.port}"

    def __enter__(self) -> "GrpcServer":
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop(None).wait()

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        num_rows = len(next(iter(inputs.values())))
        version = request.model_spec.version.value or request.model_spec.version_label
        self._meet((num_rows, version), context)
        response = predict_pb2.PredictResponse()
        try:
            outputs = self.model.run(request.model_spec.signature_name, version, inputs)
        except Refused as refused:
            context.abort(grpc.StatusCode[str(refused)], "told to fail")
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._meet("signatures", context)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        for field in request.metadata_field:
            response.metadata[field].Pack(self.model.definitions)
        return response

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._meet("status", context)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self.model.states.items():
            status = response.model_version_status.add(version=version, state=state)
            if state == "END":
                status.status.error_code, status.status.error_message = 3, "no graph"
        return response

    def _meet(self, kind: Any, context: Any) -> None:
        try:
            self.model.meet(kind, dict(context.invocation_metadata()))
        except Refused as refused:
            context.abort(grpc.StatusCode[str(refused)], "told to fail")


class RestWire(httpx.MockTransport, httpx.AsyncBaseTransport):
    """Serves over HTTP, without a network; `model` says what goes wrong."""

    def __init__(self) -> None:
        self.model = FakeModel()
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path, _, verb = request.url.path.partition(":")
        try:
            if verb == "predict":
                values = json.loads(request.content)["inputs"]["embeddings"]
                version = path.rpartition("/")[2] if path.count("/") > 3 else ""
                self._meet((len(values), int(version) if version.isdigit() else version), request)
                outputs = self.model.search(np.array(values))
                content = {"outputs": {name: a.tolist() for name, a in outputs.items()}}
            elif path.endswith("/metadata"):
                self._meet("signatures", request)
                found = MessageToDict(self.model.definitions, preserving_proto_field_name=True)
                content = {"metadata": {"signature_def": found}}
            else:
                self._meet("status", request)
                content = {"model_version_status": [{"version": str(NEWEST), "state": "AVAILABLE"}]}
            return httpx.Response(200, json=content)
        except Refused as refused:
            return httpx.Response(HTTP_STATUS_OF[str(refused)], json={"error": "told to fail"})

    def _meet(self, kind: Any, request: httpx.Request) -> None:
        self.model.meet(kind, dict(request.headers))
