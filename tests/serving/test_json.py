"""JSON and tensors: what goes in comes out, and nonsense is refused with one kind of error."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from tfpqn.export.client import ServingError
from tfpqn.export.interface.json_values import from_json, to_json
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.server.json_bodies import parse_body, read_arrays, write_outputs

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
def test_what_a_client_writes_is_read_as_it_was_in_columns_and_in_rows(array):
    values = to_json(array)
    rows = [{"x": row, "y": row} for row in values]
    for received in (
        read({"inputs": {"x": values}}, x=array)["x"],
        read({"inputs": values}, x=array)["x"],
        read({"instances": values}, x=array)["x"],
        *read({"instances": rows}, x=array, y=array).values(),
    ):
        assert_equal(received, array)


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


def test_strings_and_numbers_without_a_form_in_json_are_written_as_strings_and_null():
    texts = np.array([["ä".encode(), b""]], object)
    # In fewer digits the largest number is a little larger than itself.
    largest = np.finfo(np.float32).max
    scores = np.array([[np.nan, -np.inf, largest]], np.float32)
    content = write_outputs({"names": texts, "scores": scores}, False)
    found = json.loads(content, parse_constant=pytest.fail)["outputs"]
    assert found["names"] == [["ä", ""]]
    assert found["scores"][0][:2] == [None, None]
    for value in (found["scores"][0][2], 3.4028235e38):
        assert from_json([value], TensorInfo("float32", (None,))) == largest


@pytest.mark.parametrize(
    ("dtype", "values", "error", "words"),
    [
        ("int64", [2**63], ValueError, "fit int64"),
        ("int32", [2**31], ValueError, "fit int32"),
        ("float32", [1e300], ValueError, "fit float32"),
        ("int64", [[1], [1, 2]], ValueError, "equal lengths"),
        ("int64", [1.0], TypeError, "int64. Received: float64"),
        ("int64", [True], TypeError, "Received: bool"),
        ("int64", ["a"], TypeError, "Received: text"),
        ("float32", [None], TypeError, "mixed"),
        ("string", [1], ValueError, "int values"),
        ("string", [["a"], ["b", "c"]], ValueError, "equal lengths"),
        ("string", [{"b64": "YQ==", "more": 1}], ValueError, "dict values"),
        ("string", [{"b64": "?"}], ValueError, "Base64"),
        ("string", ["\ud800"], ValueError, "Unicode"),
    ],
)
def test_values_of_another_kind_or_size_are_refused(dtype, values, error, words):
    with pytest.raises(error, match=words):
        from_json(values, TensorInfo(dtype, (None,)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=3)
    ),
    max_leaves=15,
)
documents = st.dictionaries(st.sampled_from(["instances", "inputs"]), json_values, max_size=1)


@given(
    data=st.binary(max_size=50)
    | (documents | json_values).map(lambda value: json.dumps(value).encode()),
    dtype=st.sampled_from([*NUMBERS, "string"]),
)
def test_any_bytes_make_arrays_or_one_kind_of_error(data, dtype):
    infos = dict.fromkeys(("x", "y"), TensorInfo(dtype, None))
    try:
        arrays = read_arrays(parse_body(data), "s", Signature(infos, {}))
    except ServingError as error:
        assert error.code == "INVALID_ARGUMENT"
    else:
        expected = object if dtype == "string" else np.dtype(dtype)
        assert all(array.dtype == expected for array in arrays.values())
