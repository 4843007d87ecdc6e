"""Calls to a running server, written against the published protos alone."""

import json
from typing import Any

import grpc
import httpx
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

TIMEOUT = 60.0


def make_request(
    model: str, signature: str, inputs: dict[str, Any], version: int | None = None, label: str = ""
) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


class Caller:
    """Stubs on one channel."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()

    def predict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        request = make_request(*arguments, **options)
        response = self.prediction.Predict(request, timeout=TIMEOUT)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def status(self, model: str, version: int | None = None, label: str = "") -> dict[int, Any]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.CopyFrom(make_request(model, "", {}, version, label).model_spec)
        response = self.model.GetModelStatus(request, timeout=TIMEOUT)
        return {status.version: status for status in response.model_version_status}

    def metadata(self, model: str, field: str = "signature_def") -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[field])
        request.model_spec.name = model
        return self.prediction.GetModelMetadata(request, timeout=TIMEOUT)


def call_rest(port: int, path: str, body: Any = None, headers: Any = None) -> httpx.Response:
    """GET, or POST where there is a body: bytes, or what JSON can hold."""
    method = "GET" if body is None else "POST"
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    url = f"http://127.0.0.1:{port}{path}"
    # No certificates: to read them takes longer than to search.
    with httpx.Client(trust_env=False, timeout=TIMEOUT, verify=False) as client:
        return client.request(method, url, content=content, headers=headers)


def assert_same(received: dict[str, Any], expected: dict[str, Any]) -> None:
    """Floats within 1e-5, all else exactly."""
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        values = np.asarray(values)
        if values.dtype.kind == "f":
            np.testing.assert_allclose(received[name], values, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(received[name], values)
