"""What comes over the wire is what the loaded folder answers."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2

from tests.serving.calls import TIMEOUT, assert_same, call_rest, make_request
from tests.serving.models import make_inputs
from tfpqn.export.interface.json_values import from_json, to_json
from tfpqn.export.interface.signatures import TensorInfo

BY_EMBEDDING = "search_by_embedding"
WITHOUT_ROWS = {"search_k", "search_with_probes"}


def expect(served, signature, inputs):
    return served.model.searcher.run(signature, inputs)


def predict_by_rest(served, signature, inputs, is_rows=False):
    """The answer to a prediction over REST, in the dtypes that are expected."""
    values = {name: to_json(value) for name, value in inputs.items()}
    if is_rows:
        values = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    if len(inputs) == 1:
        values = to_json(*inputs.values())
    body = {"signature_name": signature, "instances" if is_rows else "inputs": values}
    answer = call_rest(served.server.rest_port, f"/v1/models/{served.name}:predict", body)
    assert answer.status_code == 200, answer.content
    expected = expect(served, signature, inputs)
    found = answer.json()["predictions" if is_rows else "outputs"]
    if is_rows and len(expected) > 1:
        found = {name: [row[name] for row in found] for name in expected}
    elif len(expected) == 1:
        found = dict.fromkeys(expected, found)
    return {name: as_array(found[name], array) for name, array in expected.items()}


def as_array(values, expected):
    """JSON's lists in the expected dtype."""
    dtype = "string" if expected.dtype == object else expected.dtype.name
    return from_json(values, TensorInfo(dtype, None))


@pytest.fixture(params=(pytest.param("plain", marks=pytest.mark.slow), "batched"))
def served(request):
    """Images without batching, then clips with it."""
    return request.getfixturevalue(request.param)


def test_every_signature_answers_as_the_folder_does(served):
    for signature in served.model.signatures:
        inputs = make_inputs(served.model, signature, 3)
        expected = expect(served, signature, inputs)
        assert_same(served.caller.predict(served.name, signature, inputs), expected)
        assert_same(predict_by_rest(served, signature, inputs), expected)
        if signature not in WITHOUT_ROWS:
            assert_same(predict_by_rest(served, signature, inputs, is_rows=True), expected)


def test_the_default_signature_and_the_names_come_back(plain):
    images = make_inputs(plain.model, "search", 1)
    spec = plain.caller.prediction.Predict(make_request(plain.name, "", images), TIMEOUT).model_spec
    received = (spec.name, spec.version.value, spec.signature_name)
    assert received == (plain.name, 1, "serving_default")


def test_metadata_names_the_signatures(plain):
    response = plain.caller.metadata(plain.name)
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    for name, signature in plain.model.signatures.items():
        assert set(found.signature_def[name].inputs) == set(signature["inputs"])
        assert set(found.signature_def[name].outputs) == set(signature["outputs"])
    answer = call_rest(plain.server.rest_port, f"/v1/models/{plain.name}/metadata")
    assert answer.json()["model_spec"] == {"name": plain.name, "signature_name": "", "version": "1"}
    inner = answer.json()["metadata"]["signature_def"]["signature_def"]
    assert set(inner) == set(found.signature_def)
    assert inner["search"]["inputs"]["images"]["dtype"] == "DT_STRING"


def test_status_is_told_in_the_words_of_tensorflow_serving(plain):
    assert [status.state for status in plain.caller.status(plain.name).values()] == [30]
    status = {"error_code": "OK", "error_message": ""}
    expected = [{"version": "1", "state": "AVAILABLE", "status": status}]
    for path in ("", "/versions/1"):
        answer = call_rest(plain.server.rest_port, f"/v1/models/{plain.name}{path}")
        assert (answer.status_code, answer.json()) == (200, {"model_version_status": expected})


def test_merged_requests_get_the_answers_they_would_get_alone(batched):
    """Many clients, several signatures and sizes at once, and a request larger than a batch."""
    signatures = ["search", "search_by_embedding", "search_k", "encode"]

    def ask(number):
        signature = signatures[number % len(signatures)]
        inputs = make_inputs(
            batched.model, signature, 40 if number == 1 else 1 + number % 3, number
        )
        if number % 2:
            return signature, inputs, batched.caller.predict(batched.name, signature, inputs)
        return signature, inputs, predict_by_rest(batched, signature, inputs)

    with ThreadPoolExecutor(8) as pool:
        for signature, inputs, received in pool.map(ask, range(30)):
            assert_same(received, expect(batched, signature, inputs))


def test_bad_requests_fail_none_of_their_neighbours(batched):
    good = make_inputs(batched.model, BY_EMBEDDING, 1)
    bad = {"embeddings": np.full_like(good["embeddings"], np.nan)}
    expected = expect(batched, BY_EMBEDDING, good)

    def ask(inputs):
        try:
            return batched.caller.predict(batched.name, BY_EMBEDDING, inputs)
        except grpc.RpcError as error:
            return error.code()

    asked = [good, bad] * 20
    with ThreadPoolExecutor(8) as pool:
        for inputs, received in zip(asked, pool.map(ask, asked), strict=True):
            if inputs is bad:
                assert received is grpc.StatusCode.INVALID_ARGUMENT
            else:
                assert_same(received, expected)
