"""What tests need of the backend and Keras does not offer: gradients and compilation."""

import hypothesis
import keras
import numpy as np
import pytest
from keras import ops

BACKEND = keras.backend.backend()

only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow")
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="needs JAX")

# JAX compiles every operation anew for every shape that an example brings.
few_examples = hypothesis.settings(max_examples=10 if BACKEND == "tensorflow" else 3)


def kept_dtype(dtype):
    """What a tensor of that dtype has on this backend: Keras has no uint16 on torch."""
    return "int32" if BACKEND == "torch" and dtype == "uint16" else dtype


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def assert_close(actual, expected, tolerance=1e-5):
    """Equal shapes, and values equal within a relative and absolute tolerance."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def assert_same(actual, expected):
    """Equal to the last bit."""
    np.testing.assert_array_equal(to_numpy(actual), to_numpy(expected))


def gradients(function, *inputs):
    """Gradients of a scalar function by each of its float inputs, as numpy arrays."""
    inputs = [ops.convert_to_tensor(x, dtype="float32") for x in inputs]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        found = tape.gradient(value, inputs, unconnected_gradients="zero")
    elif BACKEND == "torch":
        import torch

        inputs = [x.detach().requires_grad_() for x in inputs]
        value = function(*inputs)
        # A function of none of its inputs has no graph.
        found = [torch.zeros_like(x) for x in inputs]
        if value.requires_grad:
            found = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    else:
        import jax

        found = jax.jit(jax.grad(function, argnums=tuple(range(len(inputs)))))(*inputs)
    return [to_numpy(gradient) for gradient in found]


def numeric_gradient(function, x, step=1e-5):
    """Central differences in float64."""
    x, gradient = x.astype("float64"), np.zeros(x.shape)
    for position in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[position] += sign * step
            ends.append(function(moved))
        gradient[position] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def compiled(function, *examples):
    """The function compiled for arrays like the examples; TensorFlow is not told their length.

    On torch it stays as it is.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec([None, *np.shape(x)[1:]], np.asarray(x).dtype) for x in examples]
        return tf.function(function, input_signature=signature)
    if BACKEND == "torch":
        return lambda *arrays: function(*map(ops.convert_to_tensor, arrays))
    import jax

    return jax.jit(function)
