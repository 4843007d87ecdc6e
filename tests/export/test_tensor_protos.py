"""TensorProtos are read and written as TensorFlow does it."""

import hypothesis
import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfpqn.export.interface.tensor_protos import from_proto, write_values

DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
numbers = st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, shapes))
texts = npst.arrays(object, shapes, elements=st.binary(max_size=9), fill=st.nothing())


def assert_same(received, expected):
    assert (received.dtype, received.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(received, expected)


@hypothesis.given(st.one_of(numbers, texts))
def test_what_tensorflow_writes_is_read(array):
    assert_same(from_proto(tf.make_tensor_proto(array, dtype=tf.as_dtype(array.dtype))), array)


@hypothesis.given(st.one_of(numbers, texts))
def test_what_is_written_in_the_field_of_its_dtype_is_read_by_both(array):
    proto = TensorProto()
    write_values(array, proto)
    assert not proto.tensor_content
    assert_same(tf.make_ndarray(proto), array)
    assert_same(from_proto(proto), array)


def test_values_that_the_dtype_cannot_hold_are_refused():
    proto = TensorProto(dtype=tf.uint8.as_datatype_enum, int_val=[300])
    proto.tensor_shape.dim.add(size=1)
    with pytest.raises(ValueError, match="fit uint8"):
        from_proto(proto)
    proto = TensorProto(dtype=tf.float16.as_datatype_enum, half_val=[70000])
    proto.tensor_shape.dim.add(size=1)
    with pytest.raises(ValueError, match="fit uint16"):
        from_proto(proto)


FIELDS = {
    "float16": "half_val", "float32": "float_val", "float64": "double_val", "int8": "int_val",
    "int32": "int_val", "int64": "int64_val", "uint64": "uint64_val", "bool": "bool_val",
}  # fmt: skip


@pytest.mark.parametrize("dtype", FIELDS)
@pytest.mark.parametrize("num_values", [0, 1, 2, 6])
def test_of_typed_values_the_last_stands_for_the_rest(dtype, num_values):
    proto = tf.make_tensor_proto(np.zeros((3, 2), dtype))
    for field in ("tensor_content", FIELDS[dtype]):
        proto.ClearField(field)
    values = [1, 0, 1, 1, 0, 1][:num_values]
    getattr(proto, FIELDS[dtype]).extend(values)
    assert_same(from_proto(proto), tf.make_ndarray(proto))


def test_of_strings_the_last_stands_for_the_rest():
    proto = tf.make_tensor_proto(np.full((3, 2), b"", object))
    del proto.string_val[:]
    assert from_proto(proto).tolist() == [[b"", b""]] * 3
    proto.string_val.extend([b"a", b"b"])
    assert from_proto(proto).tolist() == [[b"a", b"b"], [b"b", b"b"], [b"b", b"b"]]
