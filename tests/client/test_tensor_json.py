"""JSON values of the REST interface and back: nothing is lost, nothing is guessed."""

import json

import hypothesis
import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import strategies as st

from tfpqn.export.client.tensor_json import from_values, to_values
from tfpqn.export.interface.signatures import TensorInfo

shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)
numbers = st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool"]).flatmap(
    lambda dtype: npst.arrays(dtype, shapes)
)
texts = npst.arrays(object, shapes, elements=st.text(max_size=9), fill=st.nothing())


def open_info(array: np.ndarray) -> TensorInfo:
    dtype = "string" if array.dtype == object else array.dtype.name
    return TensorInfo(dtype, (None,) * array.ndim)


@hypothesis.given(numbers)
def test_numbers_survive_json(array):
    received = from_values(json.loads(json.dumps(to_values(array))), open_info(array))
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(received, array)


@hypothesis.given(texts)
def test_text_survives_json_as_text_and_as_base64(array):
    as_bytes = np.fromiter((t.encode() for t in array.flat), object, array.size)
    as_bytes = as_bytes.reshape(array.shape)
    for values in (array.tolist(), to_values(as_bytes)):
        received = from_values(json.loads(json.dumps(values)), open_info(array))
        assert received.shape == array.shape
        assert received.tolist() == as_bytes.tolist()


def test_whole_numbers_serve_as_floats_but_not_the_other_way_round():
    assert from_values([1, 2], TensorInfo("float32", (None,))).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="must be int64. Received: float64"):
        from_values([1.0, 2.0], TensorInfo("int64", (None,)))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2**63], "int64"),
        ([-(2**63) - 1], "int64"),
        ([2**31], "int32"),
        ([[1], [1, 2]], "int64"),
        (["a"], "int64"),
        ([None], "float32"),
        ([True], "int64"),
        ([1], "string"),
        ([["a"], "b"], "string"),
        (["b", ["a"]], "string"),
        ([["a"], ["b", "c"]], "string"),
        ([{"b64": "?"}], "string"),
        ([{"b64": "YQ==", "more": 1}], "string"),
        ({"a": 1}, "float32"),
    ],
)
def test_other_values_are_refused(values, dtype):
    with pytest.raises(ValueError):
        from_values(values, TensorInfo(dtype, (None,)))


def test_no_rows_have_the_columns_of_the_signature():
    assert from_values([], TensorInfo("int64", (None, 7))).shape == (0, 7)
    assert from_values([], TensorInfo("string", (None, None))).shape == (0, 0)


def test_nan_and_infinity_come_as_bare_words():
    received = from_values(json.loads("[NaN, -Infinity]"), TensorInfo("float32", (None,)))
    np.testing.assert_array_equal(received, np.array([np.nan, -np.inf], np.float32))
