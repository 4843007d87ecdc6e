"""Each bad request gets the status that TensorFlow Serving gives it, and nothing else happens."""

import asyncio
import gc
import json
import re
import socket
import zlib

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.export.tiny import EMBEDDING_DIM, make_images
from tests.serving.calls import TIMEOUT, call_rest, embeddings_of, make_request
from tests.serving.conftest import MAX_BYTES

BY_EMBEDDING = "search_by_embedding"
GOOD = {"embeddings": embeddings_of(1)}
NAN = np.full((1, EMBEDDING_DIM), np.nan, np.float32)


def refusal(served, model="", signature=BY_EMBEDDING, inputs=GOOD, **options):
    request = make_request(model or served.name, signature, inputs, **options)
    return refusal_of(lambda: served.caller.prediction.Predict(request, TIMEOUT))


def refusal_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"model": "fish"}, "NOT_FOUND", r"Servable not found for request: Latest\(fish\)"),
        ({"version": 7}, "NOT_FOUND", r"Specific\(birds-int64, 7\)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"signature": "fly"}, "FAILED_PRECONDITION", 'Serving signature key "fly" not found'),
        ({"inputs": {}}, "INVALID_ARGUMENT", r"must be \['embeddings'\]"),
        ({"inputs": {"images": GOOD["embeddings"]}}, "INVALID_ARGUMENT", "Received: .'images'"),
        ({"inputs": {**GOOD, "k": np.int32(1)}}, "INVALID_ARGUMENT", "'k'"),
        (
            {"inputs": {"embeddings": GOOD["embeddings"].astype(np.float64)}},
            "INVALID_ARGUMENT",
            "embeddings must have dtype float32. Received: float64",
        ),
        (
            {"inputs": {"embeddings": np.array([[b"x"] * EMBEDDING_DIM], object)}},
            "INVALID_ARGUMENT",
            "Received: string",
        ),
        (
            {"inputs": {"embeddings": np.ones((1, EMBEDDING_DIM), np.complex64)}},
            "INVALID_ARGUMENT",
            "Received: data type 8",
        ),
        (
            {"inputs": {"embeddings": np.ones((1, 3), np.float32)}},
            "INVALID_ARGUMENT",
            r"embeddings must have shape \[any, 16\]. Received: \[1, 3\]",
        ),
        ({"inputs": {"embeddings": np.ones(16, np.float32)}}, "INVALID_ARGUMENT", "shape"),
        ({"inputs": {"embeddings": np.ones((0, 16), np.float32)}}, "INVALID_ARGUMENT", "rows"),
        ({"inputs": {"embeddings": np.ones((1025, 16), np.float32)}}, "INVALID_ARGUMENT", "1024"),
        ({"inputs": {"embeddings": NAN}}, "INVALID_ARGUMENT", "embeddings must be finite"),
        (
            {"signature": "search", "inputs": {"images": np.array([b"GIF"], object)}},
            "INVALID_ARGUMENT",
            "images: expected the bytes of a JPEG",
        ),
        (
            {"signature": "search", "inputs": {"images": np.array([b"\x89PNG"], object)}},
            "INVALID_ARGUMENT",
            "images",
        ),
        (
            {"signature": "decode", "inputs": {"codes": np.full((1, 4), 99, np.int32)}},
            "INVALID_ARGUMENT",
            "codes",
        ),
    ],
)
def test_grpc_refuses_with_the_code_and_names_what_is_wrong(plain, options, code, words):
    received = refusal(plain, **options)
    assert received[0] == code, received
    assert len(received[1]) <= 1000
    assert re.search(words, received[1]), received


def rest_body(**changes):
    body = {"signature_name": BY_EMBEDDING, "instances": GOOD["embeddings"].tolist(), **changes}
    return {key: value for key, value in body.items() if value is not None}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/models/fish:predict", rest_body(), 404, "Servable not found"),
        ("/v1/models/NAME/versions/7:predict", rest_body(), 404, "Specific"),
        ("/v1/models/NAME/labels/new:predict", rest_body(), 400, "version label: new"),
        (f"/v1/models/NAME/versions/{10**30}:predict", rest_body(), 400, "to numeric"),
        ("/v1/models/NAME:predict", rest_body(signature_name="fly"), 400, "not found in signature"),
        ("/v1/models/NAME:predict", rest_body(signature_name=3), 400, "must be a string"),
        ("/v1/models/NAME:predict", rest_body(inputs=[1]), 400, "either"),
        ("/v1/models/NAME:predict", rest_body(instances=None), 400, "either"),
        ("/v1/models/NAME:predict", rest_body(instances=[]), 400, "not empty"),
        ("/v1/models/NAME:predict", rest_body(instances=[[1, 2], [3]]), 400, "equal lengths"),
        ("/v1/models/NAME:predict", rest_body(instances=[["x"] * 16]), 400, "type float32"),
        ("/v1/models/NAME:predict", rest_body(instances=[[1e300] * 16]), 400, "within float32"),
        ("/v1/models/NAME:predict", rest_body(instances=[[10**400] * 16]), 400, "within float32"),
        ("/v1/models/NAME:predict", rest_body(instances=[{"x": 1}]), 400, "keys"),
        ("/v1/models/NAME:predict", rest_body(instances=NAN.tolist()), 400, "finite"),
        ("/v1/models/NAME:predict", {"instances": [{"b64": "?"}]}, 400, "Base64"),
        ("/v1/models/NAME:predict", {"instances": ["\ud800"]}, 400, "Unicode"),
        ("/v1/models/NAME:predict", {"instances": ["no image"]}, 400, "images: expected"),
        ("/v1/models/NAME:predict", b"", 400, "JSON Parse error"),
        ("/v1/models/NAME:predict", b"\xff\xfe\x00", 400, "JSON Parse error"),
        ("/v1/models/NAME:predict", b"[" * 100_000, 400, "JSON Parse error"),
        ("/v1/models/NAME:predict", b"[" * 600_000, 400, "at most"),
        ("/v1/models/NAME:predict", b"9" * 10_000, 400, "JSON"),
        ("/v1/models/NAME:predict", b" " * (MAX_BYTES + 1), 413, "at most"),
        ("/v1/models/NAME:classify", rest_body(), 400, "Use Predict"),
        ("/v1/models/NAME:regress", rest_body(), 400, "Use Predict"),
        ("/v1/models/NAME:fly", rest_body(), 400, "Malformed request: POST"),
        ("/v1/models/NAME", rest_body(), 400, "Malformed request: POST"),
        ("/v1/models/NAME:predict", None, 400, "Malformed request: GET"),
        ("/v1/models", None, 400, "Missing model name"),
        ("/v1/models/fish", None, 404, "Could not find any versions of model fish"),
        ("/v1/models/NAME/versions/7", None, 404, "Could not find version 7"),
        ("/v1/models/NAME/labels/new", None, 400, "version label"),
        ("/v1/models/fish/metadata", None, 404, "Servable not found"),
        ("/elsewhere", None, 404, "Not found"),
    ],
)
def test_rest_refuses_with_the_status_and_names_what_is_wrong(plain, path, body, status, words):
    answer = call_rest(plain.server.rest_port, path.replace("NAME", plain.name), body)
    assert answer.status == status, answer
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]


def test_classify_regress_and_multi_inference_are_refused_politely(plain):
    prediction = plain.caller.prediction
    classify = classification_pb2.ClassificationRequest()
    regress = regression_pb2.RegressionRequest()
    several = inference_pb2.MultiInferenceRequest()
    for method, request, spec in (
        (prediction.Classify, classify, classify.model_spec),
        (prediction.Regress, regress, regress.model_spec),
        (prediction.MultiInference, several, several.tasks.add().model_spec),
    ):
        spec.name = plain.name
        code, words = refusal_of(lambda call=method, sent=request: call(sent, TIMEOUT))
        assert code == "INVALID_ARGUMENT"
        assert "Use Predict" in words
        spec.name = "fish"
        assert refusal_of(lambda call=method, sent=request: call(sent, TIMEOUT))[0] == "NOT_FOUND"


def test_reloading_another_configuration_is_unimplemented(plain):
    request = model_management_pb2.ReloadConfigRequest()
    code, _ = refusal_of(lambda: plain.caller.model.HandleReloadConfigRequest(request, TIMEOUT))
    assert code == "UNIMPLEMENTED"


def test_status_and_metadata_of_what_is_not_there_are_refused(plain):
    caller = plain.caller
    assert refusal_of(lambda: caller.status("fish"))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.status(""))[0] == "INVALID_ARGUMENT"
    assert refusal_of(lambda: caller.status(plain.name, version=9))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.status(plain.name, label="x"))[0] == "INVALID_ARGUMENT"
    assert refusal_of(lambda: caller.metadata("fish"))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.metadata(plain.name, "weights"))[0] == "INVALID_ARGUMENT"
    empty = get_model_metadata_pb2.GetModelMetadataRequest()
    empty.model_spec.name = plain.name
    code, _ = refusal_of(lambda: caller.prediction.GetModelMetadata(empty, TIMEOUT))
    assert code == "INVALID_ARGUMENT"


def test_bytes_that_are_no_message_are_internal_errors_of_the_call_alone(plain):
    call = plain.caller.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, words = refusal_of(lambda: call(b"\xff\xff garbage", timeout=TIMEOUT))
    assert (code, words) == ("INTERNAL", "The bytes must be a PredictRequest")
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)


def test_an_unknown_method_is_unimplemented(plain):
    call = plain.caller.channel.unary_unary("/tensorflow.serving.PredictionService/Fly")
    assert refusal_of(lambda: call(b"", timeout=TIMEOUT))[0] == "UNIMPLEMENTED"


def test_a_message_over_the_limit_exhausts_resources(plain):
    images = {"images": np.array([b"\x89PNG" + b"0" * MAX_BYTES], object)}
    code, _ = refusal(plain, signature="search", inputs=images)
    assert code == "RESOURCE_EXHAUSTED"
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)


@pytest.mark.parametrize("shape", [[2**40, EMBEDDING_DIM], [1024, 2**40], [-1, EMBEDDING_DIM]])
def test_a_huge_shape_with_few_values_takes_no_memory(plain, shape):
    request = make_request(plain.name, BY_EMBEDDING, GOOD)
    for axis, size in zip(request.inputs["embeddings"].tensor_shape.dim, shape, strict=True):
        axis.size = size
    call = plain.caller.prediction.Predict
    assert refusal_of(lambda: call(request, TIMEOUT))[0] == "INVALID_ARGUMENT"


def test_a_number_of_values_that_does_not_fit_the_shape_is_refused(plain):
    request = make_request(plain.name, BY_EMBEDDING, GOOD)
    request.inputs["embeddings"].tensor_content += b"0000"
    call = plain.caller.prediction.Predict
    assert refusal_of(lambda: call(request, TIMEOUT))[0] == "INVALID_ARGUMENT"


def test_an_image_with_too_many_pixels_is_refused_by_its_header(plain):
    (image,) = make_images(1)
    header = b"IHDR" + (2**14).to_bytes(4, "big") * 2 + image[24:29]
    bomb = image[:12] + header + zlib.crc32(header).to_bytes(4, "big") + image[33:]
    code, words = refusal(plain, signature="search", inputs={"images": np.array([bomb], object)})
    assert code == "INVALID_ARGUMENT"
    assert "pixels" in words


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x16\x03\x01 not HTTP at all \r\n\r\n",
        b"POST /v1/models/birds-int64:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/models/birds-int64:predict HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"GET /v1/models/birds-int64 HTTP/1.1\r\nHost:",
    ],
)
@pytest.mark.parametrize("port", ("port", "rest_port"))
def test_connections_that_are_given_up_half_way_harm_nobody(plain, sent, port):
    for how in (socket.SHUT_WR, socket.SHUT_RDWR):
        with socket.create_connection(("127.0.0.1", getattr(plain.server, port))) as connection:
            connection.sendall(sent)
            connection.shutdown(how)
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)
    assert call_rest(plain.server.rest_port, f"/v1/models/{plain.name}").status == 200


def test_a_body_over_the_limit_is_refused_while_it_is_read(plain):
    """Without a length beforehand, and endless."""
    head = f"POST /v1/models/{plain.name}:predict HTTP/1.1\r\nHost: localhost\r\n"
    chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", plain.server.rest_port), TIMEOUT) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(chunk)
            answer = connection.recv(100)
        except OSError:
            answer = b"HTTP/1.1 413"
    assert answer.startswith(b"HTTP/1.1 413")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.fixed_dictionaries({"b64": st.text(max_size=8)}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "images", "embeddings", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.fixed_dictionaries(
        {},
        optional={
            "signature_name": st.sampled_from([BY_EMBEDDING, "search", "decode", "x"])
            | json_values,
            "instances": json_values,
            "inputs": json_values,
        },
    ).map(lambda body: json.dumps(body).encode()),
    st.builds(lambda value, cut: json.dumps(value).encode()[:cut], json_values, st.integers(0, 40)),
)


def assert_survives(served, body):
    answer = call_rest(served.server.rest_port, f"/v1/models/{served.name}:predict", body)
    assert answer.status in (200, 400), answer
    assert answer.status == 200 or list(answer.json) == ["error"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies)
def test_any_body_is_answered_or_refused_with_a_sentence(plain, body):
    assert_survives(plain, body)


@pytest.mark.slow
def test_ten_thousand_malformed_bodies_leave_the_memory_as_it_was(plain):
    def resident_bytes():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    @settings(max_examples=10_000, suppress_health_check=list(HealthCheck), database=None)
    @given(body=bodies)
    def send(body):
        assert_survives(plain, body)

    assert_survives(plain, b"{")
    before = resident_bytes()
    send()
    assert resident_bytes() - before < 200 * 2**20
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)


def test_a_request_that_is_cancelled_is_forgotten(batched):
    request = make_request(batched.name, BY_EMBEDDING, GOOD)
    with pytest.raises(grpc.RpcError) as caught:
        batched.caller.prediction.Predict(request, timeout=1e-4)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(20):
        batched.caller.prediction.Predict.future(request, TIMEOUT).cancel()
    batched.caller.predict(batched.name, BY_EMBEDDING, GOOD)


def test_asyncio_clients_in_another_loop_are_served_as_well(plain):
    async def ask():
        address = f"127.0.0.1:{plain.server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict",
                response_deserializer=predict_pb2.PredictResponse.FromString,
            )
            data = make_request(plain.name, BY_EMBEDDING, GOOD).SerializeToString()
            return await asyncio.gather(*[call(data, timeout=TIMEOUT) for _ in range(8)])

    for response in asyncio.run(ask()):
        assert response.model_spec.version.value == 1
