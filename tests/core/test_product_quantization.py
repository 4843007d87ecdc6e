"""Laws of product quantization as a layer, against the loops over the paper's formulas."""

import keras
import numpy as np
import pytest
from keras import ops

from tests import reference
from tests.core.backend import (
    assert_close,
    assert_same,
    gradients,
    kept_dtype,
    numeric_gradient,
    to_numpy,
)
from tests.core.quantizers import product, with_codebooks


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [(256, "uint8"), (257, "uint16"), (65537, "int32")],
)
def test_the_last_of_many_codewords_survives_its_dtype(num_codewords, dtype):
    layer = product(2, num_codewords, 4)
    assert layer.code_dtype == dtype
    last = np.full((1, 2), num_codewords - 1)
    codebooks = -np.abs(to_numpy(layer.codebooks))
    codebooks[:, -1] = 1.0  # alone in the positive quadrant
    layer.codebooks.assign(codebooks)
    codes = layer.encode(np.ones((1, 4), "float32"))
    assert keras.backend.standardize_dtype(codes.dtype) == kept_dtype(dtype)
    assert_same(codes, last)
    assert_close(layer.decode(codes), np.full((1, 4), 0.5**0.5))


def test_of_equally_near_codewords_the_first_is_chosen():
    layer = with_codebooks([[[0.0, -1.0], [1.0, 0.0], [1.0, 0.0]]])
    assert_same(layer.encode(np.array([[1.0, 0.0], [0.0, 0.0]], "float32")), [[1], [0]])


def test_the_gradient_matches_finite_differences(rng):
    embeddings = rng.normal(size=(3, 4)).astype("float32")
    codebooks = rng.normal(size=(2, 3, 2)).astype("float32")
    weights = rng.normal(size=(3, 4)).astype("float32")
    layer = with_codebooks(codebooks, alpha=2.0)

    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(ops.multiply(weights, outputs))

    def loop(embeddings, codebooks):
        return np.sum(weights * reference.reconstruct_soft(embeddings, codebooks, 2.0))

    by_embeddings, by_codebooks = gradients(total, embeddings, codebooks)
    expected = numeric_gradient(lambda x: loop(x, codebooks), embeddings)
    assert_close(by_embeddings, expected, 1e-4)
    assert_close(by_codebooks, numeric_gradient(lambda x: loop(embeddings, x), codebooks), 1e-4)


@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_gradients_stay_finite_at_the_edges(rng, alpha):
    embeddings = rng.normal(size=(4, 8)).astype("float32")
    embeddings[0] = 0.0
    codebooks = rng.normal(size=(2, 4, 4)).astype("float32")
    codebooks[:, 1] = codebooks[:, 0]
    codebooks[1, 2] = 0.0
    layer = with_codebooks(codebooks, alpha=alpha)

    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(outputs)

    for gradient in gradients(total, embeddings, codebooks):
        assert np.isfinite(gradient).all()


def test_a_call_in_mixed_precision_chooses_the_codeword_that_encoding_chooses():
    layer = with_codebooks([[[1.0, 0.0], [0.0, 1.0]]], dtype="mixed_float16")
    embeddings = np.array([[1.0, 1.0 + 2.0**-13]], "float32")  # float16 makes it a tie
    codes = layer.encode(embeddings)
    assert_same(codes, [[1]])
    assert_same(layer(embeddings), layer.decode(codes))
