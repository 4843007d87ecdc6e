"""Each bad request gets the status that TensorFlow Serving gives it, and nothing else happens."""

import re
import socket
import zlib

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import classification_pb2, model_management_pb2

from tests.export.tiny import EMBEDDING_DIM, make_embeddings, make_images
from tests.serving.calls import TIMEOUT, call_rest, make_request
from tests.serving.fixtures import MAX_BYTES

BY_EMBEDDING = "search_by_embedding"
GOOD = {"embeddings": make_embeddings(1)}
NAN = np.full((1, EMBEDDING_DIM), np.nan, np.float32)


def embeddings(value, *shape, dtype=np.float32):
    return {"inputs": {"embeddings": np.full(shape, value, dtype)}}


def image(data):
    return {"signature": "search", "inputs": {"images": np.array([data], object)}}


def make_bomb():
    """A small file whose header names too many pixels."""
    (data,) = make_images(1)
    header = b"IHDR" + (2**14).to_bytes(4, "big") * 2 + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]


def refusal_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"model": "fish"}, "NOT_FOUND", r"Servable not found for request: Latest\(fish\)"),
        ({"model": "鱼" * 2000}, "NOT_FOUND", "Servable not found for request: Latest"),
        ({"version": 7}, "NOT_FOUND", r"Specific\(images, 7\)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"signature": "fly"}, "FAILED_PRECONDITION", 'Serving signature key "fly" not found'),
        ({"inputs": {}}, "INVALID_ARGUMENT", r"must be \['embeddings'\]"),
        (embeddings(1, 1, 16, dtype=float), "INVALID_ARGUMENT", "float32. Received: float64"),
        (embeddings(1, 1, 16, dtype=complex), "INVALID_ARGUMENT", "Received: data type 18"),
        (embeddings(1, 1, 3), "INVALID_ARGUMENT", r"'embeddings' must have shape \[any, 16\]"),
        (embeddings(1, 0, 16), "INVALID_ARGUMENT", "1 to 1024 rows. Received: .*0"),
        (embeddings(1, 1025, 16), "INVALID_ARGUMENT", "1 to 1024 rows. Received: .*1025"),
        (embeddings(np.nan, 1, 16), "INVALID_ARGUMENT", "embeddings: .*finite"),
        (image(b"GIF"), "INVALID_ARGUMENT", "images: expected the bytes of a JPEG"),
        (image(make_bomb()), "INVALID_ARGUMENT", "pixels"),
        (image(b"\x89PNG" + bytes(MAX_BYTES)), "RESOURCE_EXHAUSTED", "message larger than max"),
    ],
)
def test_grpc_refuses_with_the_code_and_names_what_is_wrong(plain, options, code, words):
    options = {"model": plain.name, "signature": BY_EMBEDDING, "inputs": GOOD, **options}
    received = refusal_of(lambda: plain.caller.predict(**options))
    assert received[0] == code, received
    assert len(received[1].encode()) <= 2000 and "{{" not in received[1]
    assert re.search(words, received[1]), received
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)


def nested(value, depth):
    return [nested(value, depth - 1)] if depth else value


def rest_body(**changes):
    body = {"signature_name": BY_EMBEDDING, "instances": GOOD["embeddings"].tolist(), **changes}
    return {key: value for key, value in body.items() if value is not None}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/models/fish:predict", rest_body(), 404, "Servable not found"),
        ("/v1/models/NAME/versions/7:predict", rest_body(), 404, "Specific"),
        ("/v1/models/NAME/labels/new:predict", rest_body(), 400, "version label: new"),
        ("/v1/models/NAME:predict", rest_body(signature_name="fly"), 400, '"fly" not found'),
        ("/v1/models/NAME:predict", rest_body(signature_name="\ud800"), 400, "not found"),
        ("/v1/models/NAME:predict", rest_body(signature_name=3), 400, "must be a string"),
        ("/v1/models/NAME:predict", rest_body(inputs=[1]), 400, "either"),
        ("/v1/models/NAME:predict", rest_body(instances=[]), 400, "not empty"),
        ("/v1/models/NAME:predict", rest_body(instances=[["x"] * 16]), 400, "float32"),
        ("/v1/models/NAME:predict", rest_body(instances=NAN.tolist()), 400, "finite"),
        ("/v1/models/NAME:predict", {"instances": ["no image"]}, 400, "images: expected"),
        ("/v1/models/NAME:predict", {"instances": nested("no image", 40)}, 400, "have shape"),
        ("/v1/models/NAME:predict", b"[" * 100_000, 400, "JSON Parse error"),
        ("/v1/models/NAME:predict", b" " * (MAX_BYTES + 1), 413, "at most"),
        ("/v1/models/NAME:classify", rest_body(), 405, "Method Not Allowed"),
        ("/v1/models/fish", None, 404, "Could not find any versions of model fish"),
        ("/v1/models/NAME/versions/7", None, 404, "Could not find version 7"),
        (f"/v1/models/NAME/versions/{'7' * 5000}", None, 404, "Not Found"),
        ("/elsewhere", None, 404, "Not Found"),
    ],
)
def test_rest_refuses_with_the_status_and_names_what_is_wrong(plain, path, body, status, words):
    answer = call_rest(plain.server.rest_port, path.replace("NAME", plain.name), body)
    assert answer.status_code == status, answer
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


def test_what_a_search_does_not_need_is_unimplemented(plain):
    classify = classification_pb2.ClassificationRequest()
    reload = model_management_pb2.ReloadConfigRequest()
    for method, request in (
        (plain.caller.prediction.Classify, classify),
        (plain.caller.model.HandleReloadConfigRequest, reload),
    ):
        assert refusal_of(lambda m=method, r=request: m(r, TIMEOUT))[0] == "UNIMPLEMENTED"


def test_status_and_metadata_of_what_is_not_there_are_refused(plain):
    caller = plain.caller
    assert refusal_of(lambda: caller.status("fish"))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.status(""))[0] == "INVALID_ARGUMENT"
    assert refusal_of(lambda: caller.status(plain.name, version=9))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.status(plain.name, label="x"))[0] == "INVALID_ARGUMENT"
    assert refusal_of(lambda: caller.metadata("fish"))[0] == "NOT_FOUND"
    assert refusal_of(lambda: caller.metadata(plain.name, "weights"))[0] == "INVALID_ARGUMENT"


def test_bytes_that_are_no_message_are_internal_errors_of_the_call_alone(plain, caplog):
    call = plain.caller.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, words = refusal_of(lambda: call(b"\xff\xff garbage", timeout=TIMEOUT))
    assert (code, words) == ("INTERNAL", "The bytes must be a PredictRequest")
    assert "Traceback" not in caplog.text
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)


def test_a_shape_that_its_values_do_not_fill_takes_no_memory(plain):
    request = make_request(plain.name, BY_EMBEDDING, GOOD)
    request.inputs["embeddings"].tensor_content += b"0000"
    for shape in ([2**40, EMBEDDING_DIM], [1024, 2**40], [-1, 16], [1, 16]):
        for axis, size in zip(request.inputs["embeddings"].tensor_shape.dim, shape, strict=True):
            axis.size = size
        call = plain.caller.prediction.Predict
        assert refusal_of(lambda call=call: call(request, TIMEOUT))[0] == "INVALID_ARGUMENT"


def test_an_endless_body_is_refused_while_it_is_read(plain):
    head = f"POST /v1/models/{plain.name}:predict HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", plain.server.rest_port), TIMEOUT) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")
            answer = connection.recv(100)
        except OSError:
            answer = b"HTTP/1.1 413"
    assert answer.startswith(b"HTTP/1.1 413")
    plain.caller.predict(plain.name, BY_EMBEDDING, GOOD)
