"""What comes over the wire is what the loaded folder answers."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2

from tests.serving.calls import TIMEOUT, assert_same, call_rest, make_inputs, make_request, to_json

NUM_CLIENTS = 16


def signatures_of(served):
    return served.model.searcher.manifest["signatures"]


def inputs_of(served, signature, num_rows, seed=0):
    infos = signatures_of(served)[signature]["inputs"]
    return make_inputs(infos, num_rows, served.model.ids, seed)


def expect(served, signature, inputs):
    return served.model.searcher.run(signature, inputs)


@pytest.mark.parametrize("num_rows", (1, 3))
def test_grpc_answers_every_signature_as_the_folder_does(served, num_rows):
    for signature in signatures_of(served):
        inputs = inputs_of(served, signature, num_rows)
        received = served.caller.predict(served.name, signature, inputs)
        assert_same(received, expect(served, signature, inputs))


def test_rest_answers_every_signature_in_columns_as_the_folder_does(served):
    path = f"/v1/models/{served.name}/versions/1:predict"
    for signature in signatures_of(served):
        inputs = inputs_of(served, signature, 3)
        body = {
            "signature_name": signature,
            "inputs": {name: to_json(value) for name, value in inputs.items()},
        }
        answer = call_rest(served.server.rest_port, path, body)
        assert answer.status == 200, answer.body
        expected = expect(served, signature, inputs)
        outputs = answer.json["outputs"]
        if len(expected) == 1:
            outputs = {name: outputs for name in expected}
        assert_same(as_arrays(outputs, expected), expected)


def test_rest_answers_every_signature_in_rows_as_the_folder_does(served):
    path = f"/v1/models/{served.name}:predict"
    for signature in set(signatures_of(served)) - {"search_k", "search_with_probes"}:
        inputs = inputs_of(served, signature, 3)
        columns = {name: to_json(value) for name, value in inputs.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if len(columns) == 1:
            rows = next(iter(columns.values()))
        answer = call_rest(
            served.server.rest_port, path, {"signature_name": signature, "instances": rows}
        )
        assert answer.status == 200, answer.body
        expected = expect(served, signature, inputs)
        predictions = answer.json["predictions"]
        if len(expected) == 1:
            predictions = [{next(iter(expected)): row} for row in predictions]
        found = {name: [row[name] for row in predictions] for name in expected}
        assert_same(as_arrays(found, expected), expected)


def as_arrays(values, expected):
    """JSON's lists in the expected dtypes; strings as UTF-8."""
    arrays = {}
    for name, array in expected.items():
        received = values[name]
        if array.dtype == object:
            flat = [text.encode() for text in np.array(received, object).flat]
            received = np.array(flat, object).reshape(np.shape(received))
        arrays[name] = np.array(received, array.dtype)
    return arrays


def test_the_default_signature_and_the_names_come_back(served):
    images = inputs_of(served, "search", 1)
    response = served.caller.prediction.Predict(make_request(served.name, "", images), TIMEOUT)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        served.name,
        1,
        "serving_default",
    )


def test_an_output_filter_leaves_the_other_outputs_out(plain):
    request = make_request(
        plain.name, "search_by_embedding", inputs_of(plain, "search_by_embedding", 1)
    )
    request.output_filter.append("ids")
    response = plain.caller.prediction.Predict(request, TIMEOUT)
    assert set(response.outputs) == {"ids"}
    request.output_filter[:] = ["distances"]
    with pytest.raises(grpc.RpcError, match="output_filter must name") as caught:
        plain.caller.prediction.Predict(request, TIMEOUT)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_values_in_tensor_content_and_in_typed_fields_mean_the_same(plain):
    inputs = inputs_of(plain, "search_by_embedding", 2)
    request = make_request(plain.name, "search_by_embedding", inputs)
    assert request.inputs["embeddings"].tensor_content
    proto = request.inputs["embeddings"]
    proto.tensor_content = b""
    proto.float_val.extend(inputs["embeddings"].ravel().tolist())
    response = plain.caller.prediction.Predict(request, TIMEOUT)
    received = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    assert_same(received, expect(plain, "search_by_embedding", inputs))


def test_metadata_names_the_signatures(served):
    response = served.caller.metadata(served.name)
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    described = signatures_of(served)
    assert set(described) <= set(found.signature_def)
    for name, signature in described.items():
        assert set(found.signature_def[name].inputs) == set(signature["inputs"])
        assert set(found.signature_def[name].outputs) == set(signature["outputs"])
    answer = call_rest(served.server.rest_port, f"/v1/models/{served.name}/metadata")
    assert answer.json["model_spec"] == {"name": served.name, "signature_name": "", "version": "1"}
    inner = answer.json["metadata"]["signature_def"]["signature_def"]
    assert set(inner) == set(found.signature_def)
    assert inner["search"]["inputs"]["images"]["dtype"] == "DT_STRING"


def test_status_is_told_in_the_words_of_tensorflow_serving(served):
    assert [status.state for status in served.caller.status(served.name).values()] == [30]
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in ("", "/versions/1"):
        answer = call_rest(served.server.rest_port, f"/v1/models/{served.name}{path}")
        assert answer == (200, answer.body)
        assert answer.json == expected


def test_merged_requests_get_the_answers_they_would_get_alone(batched):
    """Many clients, all signatures, all sizes at once."""
    signatures = sorted(signatures_of(batched))

    def ask(number):
        signature = signatures[number % len(signatures)]
        inputs = inputs_of(batched, signature, 1 + number % 5, seed=number)
        if number % 2:
            return signature, inputs, batched.caller.predict(batched.name, signature, inputs)
        body = {
            "signature_name": signature,
            "inputs": {name: to_json(value) for name, value in inputs.items()},
        }
        path = f"/v1/models/{batched.name}:predict"
        outputs = call_rest(batched.server.rest_port, path, body).json["outputs"]
        expected = expect(batched, signature, inputs)
        outputs = outputs if len(expected) > 1 else {name: outputs for name in expected}
        return signature, inputs, as_arrays(outputs, expected)

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        for signature, inputs, received in pool.map(ask, range(10 * NUM_CLIENTS)):
            assert_same(received, expect(batched, signature, inputs))
    metrics = call_rest(batched.server.rest_port, "/monitoring/prometheus/metrics").body.decode()
    assert batch_count(metrics) < 10 * NUM_CLIENTS


def batch_count(metrics):
    name = ":tensorflow:serving:batching_session:processed_batch_size_count"
    (line,) = [line for line in metrics.splitlines() if line.startswith(name)]
    return float(line.split()[-1])


def test_a_request_larger_than_a_batch_runs_alone(batched):
    inputs = inputs_of(batched, "search_by_embedding", 40)
    received = batched.caller.predict(batched.name, "search_by_embedding", inputs)
    assert_same(received, expect(batched, "search_by_embedding", inputs))


def test_bad_requests_fail_none_of_their_neighbours(batched):
    good = inputs_of(batched, "search_by_embedding", 1)
    bad = {
        "decode": {"codes": np.full((1, 4), 99, np.int32)},
        "search_by_embedding": {"embeddings": np.full((1, 16), np.nan, np.float32)},
        "search": {"images": np.array([b"\x89PNG\r\n\x1a\n and no more"], object)},
    }
    codes = inputs_of(batched, "decode", 1)
    images = inputs_of(batched, "search", 1)
    calls = [("search_by_embedding", good), ("decode", codes), ("search", images)] * 10
    calls += list(bad.items()) * 10

    def ask(call):
        try:
            return call, batched.caller.predict(batched.name, *call)
        except grpc.RpcError as error:
            return call, error.code()

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        for (signature, inputs), received in pool.map(ask, calls):
            if inputs is bad[signature]:
                assert received is grpc.StatusCode.INVALID_ARGUMENT
            else:
                assert_same(received, expect(batched, signature, inputs))


def test_metrics_count_requests_under_the_names_of_tensorflow_serving(plain):
    plain.caller.predict(
        plain.name, "search_by_embedding", inputs_of(plain, "search_by_embedding", 1)
    )
    answer = call_rest(plain.server.rest_port, "/monitoring/prometheus/metrics")
    text = answer.body.decode()
    assert f':tensorflow:serving:request_count{{model_name="{plain.name}",status="OK"}}' in text
    assert ':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC"' in text
    assert ":tensorflow:serving:latest_version 1.0" in text
