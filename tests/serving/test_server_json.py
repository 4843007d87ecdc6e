"""JSON and tensors: what goes in comes out, and nonsense is refused with one kind of error."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from tests.serving.calls import to_json
from tfpqn.export.interface.signatures import TensorInfo
from tfpqn.export.server.errors import ServingError
from tfpqn.export.server.json_tensors import Body, parse_body, read_arrays, write_outputs

NUMBERS = ("float32", "float64", "int32", "int64", "uint8", "bool")
shapes = numpy_st.array_shapes(min_dims=1, max_dims=3, max_side=4)
byte_strings = st.binary(max_size=6)
texts = st.text(max_size=6).map(lambda text: text.encode("utf-8", "ignore"))


def strings(elements):
    def fill(shape):
        size = int(np.prod(shape))
        return st.lists(elements, min_size=size, max_size=size).map(
            lambda values: object_array(values, shape)
        )

    return shapes.flatmap(fill)


def object_array(values, shape):
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def numbers(dtype):
    if dtype.startswith("float"):
        width = int(dtype[-2:])
        elements = st.floats(width=width, allow_nan=False, allow_infinity=False)
        return numpy_st.arrays(dtype, shapes, elements=elements)
    return numpy_st.arrays(dtype, shapes)


any_array = st.one_of(*map(numbers, NUMBERS), strings(byte_strings))


def info_of(array):
    name = "string" if array.dtype == object else array.dtype.name
    return TensorInfo(name, None)


def assert_equal(received, expected):
    assert received.dtype == expected.dtype
    assert received.shape == expected.shape
    assert received.tolist() == expected.tolist()


@given(array=any_array, name=st.text(max_size=5))
def test_columns_come_back_as_they_were_sent(array, name):
    body = parse_body(json.dumps({"inputs": {name: to_json(array)}}).encode())
    assert not body.is_rows
    assert_equal(read_arrays(body, {name: info_of(array)})[name], array)


@given(data=st.binary(), seed=st.randoms(use_true_random=False))
def test_white_space_in_base64_changes_nothing(data, seed):
    text = list(base64.b64encode(data).decode())
    for _ in range(seed.randrange(5)):
        text.insert(seed.randint(0, len(text)), seed.choice(" \t\n\v\f\r"))
    body = Body("", True, [{"b64": "".join(text)}])
    assert read_arrays(body, {"x": TensorInfo("string", None)})["x"].tolist() == [data]


@given(array=any_array)
def test_rows_come_back_as_they_were_sent(array):
    infos = {"x": info_of(array), "y": info_of(array)}
    named = [{"x": row, "y": row} for row in to_json(array)]
    body = parse_body(json.dumps({"instances": named}).encode())
    for received in read_arrays(body, infos).values():
        assert_equal(received, array)
    bare = parse_body(json.dumps({"instances": to_json(array)}).encode())
    assert_equal(read_arrays(bare, {"x": info_of(array)})["x"], array)


@given(array=st.one_of(*map(numbers, NUMBERS)), is_rows=st.booleans())
def test_outputs_are_written_so_that_the_same_numbers_are_read(array, is_rows):
    text = write_outputs({"x": array, "y": array[:, None]}, is_rows)
    document = json.loads(text, parse_constant=pytest.fail)
    if is_rows:
        received = [row["x"] for row in document["predictions"]]
        assert len(document["predictions"]) == len(array)
    else:
        received = document["outputs"]["x"]
    assert_equal(np.array(received, array.dtype).reshape(array.shape), array)


@given(array=strings(texts))
def test_strings_are_written_as_strings_and_bytes_in_b64(array):
    text = json.loads(write_outputs({"names": array}, False))["outputs"]
    flat = [value.encode() for value in np.array(text, object).flat]
    assert flat == array.ravel().tolist()
    coded = json.loads(write_outputs({"names_bytes": array}, False))["outputs"]
    assert coded == to_json(array)


def test_ids_above_two_to_the_53_are_written_exactly():
    ids = np.array([2**53 + 1, -(2**63)])
    assert write_outputs({"ids": ids}, True) == b'{"predictions": [9007199254740993, ' + (
        b"-9223372036854775808]}"
    )


def test_no_token_outside_of_json_is_written():
    values = np.array([[np.nan, np.inf], [-np.inf, np.finfo(np.float32).min]], np.float32)
    document = json.loads(write_outputs({"scores": values}, True), parse_constant=pytest.fail)
    assert document["predictions"][0] == [None, None]
    assert np.float32(document["predictions"][1][1]) == values[1, 1]


def test_outputs_without_common_rows_can_be_had_in_columns_alone():
    outputs = {"x": np.zeros((2, 3)), "y": np.zeros(3)}
    with pytest.raises(ServingError, match="ask with 'inputs'"):
        write_outputs(outputs, True)
    assert json.loads(write_outputs(outputs, False))["outputs"]["y"] == [0, 0, 0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=3)
    ),
    max_leaves=15,
)


@given(
    value=json_values,
    is_rows=st.booleans(),
    dtype=st.sampled_from([*NUMBERS, "string"]),
    names=st.sampled_from([("x",), ("x", "y")]),
)
def test_any_json_makes_arrays_or_one_kind_of_error(value, is_rows, dtype, names):
    if is_rows and not (isinstance(value, list) and value):
        value = [value]
    try:
        arrays = read_arrays(
            Body("", is_rows, value), dict.fromkeys(names, TensorInfo(dtype, None))
        )
    except ServingError as error:
        assert error.code == "INVALID_ARGUMENT"
        assert error.message.isascii() or error.message.isprintable()
    else:
        expected = object if dtype == "string" else np.dtype(dtype)
        assert all(array.dtype == expected for array in arrays.values())


@given(data=st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_parse_or_raise_one_kind_of_error(data):
    try:
        parse_body(data)
    except ServingError as error:
        assert error.http_status == 400
