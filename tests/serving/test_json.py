"""JSON and tensors: what goes in comes out, and nonsense is refused with one kind of error."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from tests.serving.calls import to_json as encode
from tfpqn.export.interface.json_values import from_json, to_json
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.server.json_bodies import Body, parse_body, read_arrays, write_outputs
from tfpqn.export.server.refusals import ServingError

NUMBERS = ("float32", "float64", "int32", "int64", "uint8", "bool")
FINITE = {"elements": {"allow_nan": False, "allow_infinity": False}}
shapes = numpy_st.array_shapes(min_dims=1, max_dims=3, max_side=4)
numbers = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: numpy_st.arrays(dtype, shapes, **(FINITE if dtype.startswith("f") else {}))
)
strings = numpy_st.arrays(object, shapes, elements=st.binary(max_size=6), fill=st.nothing())
any_array = numbers | strings


def signature_of(**arrays):
    names = {n: "string" if a.dtype == object else a.dtype.name for n, a in arrays.items()}
    infos = {n: TensorInfo(dtype, (None,) * arrays[n].ndim) for n, dtype in names.items()}
    return Signature(infos, {})


def assert_equal(received, expected):
    assert (received.dtype, received.shape) == (expected.dtype, expected.shape)
    assert received.tolist() == expected.tolist()


def read(document, **arrays):
    return read_arrays(parse_body(json.dumps(document).encode()), "s", signature_of(**arrays))


@given(array=any_array)
def test_columns_and_rows_come_back_as_they_were_sent(array):
    values = encode(array)
    rows = [{"x": row, "y": row} for row in values]
    for received in (
        read({"inputs": {"x": values}}, x=array)["x"],
        read({"inputs": values}, x=array)["x"],
        read({"instances": values}, x=array)["x"],
        *read({"instances": rows}, x=array, y=array).values(),
    ):
        assert_equal(received, array)


@given(array=any_array)
def test_what_a_client_writes_is_read_as_it_was(array):
    (info,) = signature_of(x=array).inputs.values()
    assert_equal(from_json(json.loads(json.dumps(to_json(array))), info), array)


def test_the_largest_number_is_read_as_it_is_written():
    """In fewer digits it is a little larger than itself."""
    largest = np.array([np.finfo(np.float32).max])
    values = json.loads(write_outputs({"x": largest}, False))["outputs"]
    assert from_json(values, TensorInfo("float32", (None,))) == largest
    assert from_json([3.4028235e38], TensorInfo("float32", (None,))) == largest


@given(data=st.binary(), seed=st.randoms(use_true_random=False))
def test_white_space_in_base64_changes_nothing(data, seed):
    text = list(base64.b64encode(data).decode())
    for _ in range(seed.randrange(5)):
        text.insert(seed.randint(0, len(text)), seed.choice(" \t\n\v\f\r"))
    received = from_json([{"b64": "".join(text)}], TensorInfo("string", None))
    assert received.tolist() == [data]


@given(array=numbers, is_rows=st.booleans())
def test_outputs_are_written_so_that_the_same_numbers_are_read(array, is_rows):
    text = write_outputs({"x": array, "y": array[:, None]}, is_rows)
    document = json.loads(text, parse_constant=pytest.fail)
    rows = [row["x"] for row in document["predictions"]] if is_rows else document["outputs"]["x"]
    assert_equal(np.array(rows, array.dtype).reshape(array.shape), array)


def test_strings_are_written_as_strings_and_bytes_in_b64():
    array = np.array([["ä".encode(), b""]], object)
    assert json.loads(write_outputs({"names": array}, False))["outputs"] == [["ä", ""]]
    coded = json.loads(write_outputs({"x_bytes": array}, False))["outputs"]
    assert coded == [[{"b64": "w6Q="}, ""]]


def test_no_token_outside_of_json_is_written_and_each_bare_word_is_read():
    values = np.array([[np.nan, np.inf], [-np.inf, np.finfo(np.float32).min]], np.float32)
    document = json.loads(write_outputs({"scores": values}, True), parse_constant=pytest.fail)
    assert document["predictions"][0] == [None, None]
    assert np.float32(document["predictions"][1][1]) == values[1, 1]
    received = from_json(json.loads("[NaN, -Infinity]"), TensorInfo("float32", (None,)))
    np.testing.assert_array_equal(received, [np.nan, -np.inf])


def test_outputs_without_common_rows_can_be_had_in_columns_alone():
    outputs = {"x": np.zeros((2, 3)), "y": np.zeros(3)}
    with pytest.raises(ServingError, match="ask with 'inputs'"):
        write_outputs(outputs, True)
    assert json.loads(write_outputs(outputs, False))["outputs"]["y"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2**63], "int64"),
        ([2**31], "int32"),
        ([1.0], "int64"),
        ([1e300], "float32"),
        ([10**400, 0.5], "float32"),
        ([[1], [1, 2]], "int64"),
        (["a"], "int64"),
        ([None], "float32"),
        ([True], "int64"),
        ([1], "string"),
        ([["a"], "b"], "string"),
        ([["a"], ["b", "c"]], "string"),
        ([{"b64": "?"}], "string"),
        ([{"b64": "YQ==", "more": 1}], "string"),
        (["\ud800"], "string"),
        ({"a": 1}, "float32"),
    ],
)
def test_values_of_another_kind_or_size_are_refused(values, dtype):
    with pytest.raises(ValueError, match="must (be nested lists|hold)"):
        from_json(values, TensorInfo(dtype, (None,)))


def test_no_rows_have_the_columns_of_the_signature():
    assert from_json([], TensorInfo("int64", (None, 7))).shape == (0, 7)
    assert from_json([], TensorInfo("string", (None, None))).shape == (0, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=3)
    ),
    max_leaves=15,
)


@given(value=json_values, is_rows=st.booleans(), dtype=st.sampled_from([*NUMBERS, "string"]))
def test_any_json_makes_arrays_or_one_kind_of_error(value, is_rows, dtype):
    if is_rows and not (isinstance(value, list) and value):
        value = [value]
    infos = dict.fromkeys(("x", "y"), TensorInfo(dtype, None))
    try:
        arrays = read_arrays(Body("", is_rows, value), "s", Signature(infos, {}))
    except ServingError as error:
        assert error.code == "INVALID_ARGUMENT"
    else:
        expected = object if dtype == "string" else np.dtype(dtype)
        assert all(array.dtype == expected for array in arrays.values())


@given(data=st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_parse_or_raise_one_kind_of_error(data):
    try:
        parse_body(data)
    except ServingError as error:
        assert error.http_status == 400
