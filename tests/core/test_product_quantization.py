"""Laws of product quantization as a layer, against the loops over the paper's formulas."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests import reference
from tests.core.backend import (
    assert_close,
    assert_same,
    few_examples,
    gradients,
    kept_dtype,
    to_numpy,
)
from tfpqn.layers import ProductQuantization


def build(num_subspaces, num_codewords, embedding_dim, **options):
    layer = ProductQuantization(num_subspaces, num_codewords, **options)
    layer.build((None, embedding_dim))
    return layer


def build_from(codebooks, **options):
    num_subspaces, num_codewords, subvector_dim = np.shape(codebooks)
    layer = build(num_subspaces, num_codewords, num_subspaces * subvector_dim, **options)
    layer.codebooks.assign(np.array(codebooks, "float32"))
    return layer


@few_examples
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 9), st.integers(1, 4)),
    st.floats(0.5, 20.0),
    st.integers(0, 2**32 - 1),
)
def test_soft_and_hard_quantization_match_the_loops(sizes, alpha, seed):
    batch, num_subspaces, num_codewords, subvector_dim = sizes
    rng = np.random.default_rng(seed)
    codebooks = rng.normal(size=(num_subspaces, num_codewords, subvector_dim)).astype("float32")
    embeddings = rng.normal(size=(batch, num_subspaces * subvector_dim)).astype("float32")
    layer = build_from(codebooks, alpha=alpha)
    soft = layer(embeddings, training=True)
    assert_close(soft, reference.reconstruct_soft(embeddings, codebooks, alpha))
    tables = reference.lookup_tables(embeddings, codebooks)
    assert_close(layer.lookup_tables(embeddings), tables)
    # Codewords that are equally near, up to rounding, may be chosen either way.
    codes = to_numpy(layer.encode(embeddings))
    chosen = np.take_along_axis(tables, codes[..., None].astype(int), axis=-1)[..., 0]
    assert_close(chosen, tables.max(axis=-1), 1e-6)
    assert_close(layer.decode(codes), reference.decode(codes, codebooks), 1e-6)


@pytest.mark.parametrize("num_codewords", [2, 257])
def test_own_decodings_encode_to_themselves(rng, num_codewords):
    layer = build(3, num_codewords, 24)
    codes = rng.integers(0, num_codewords, size=(30, 3))
    codes[0] = num_codewords - 1
    again = to_numpy(layer.encode(layer.decode(codes)))
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize(
    ("num_codewords", "dtype"),
    [(256, "uint8"), (257, "uint16"), (65537, "int32")],
)
def test_the_last_of_many_codewords_survives_its_dtype(num_codewords, dtype):
    layer = build(2, num_codewords, 4)
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
    layer = build_from([[[0.0, -1.0], [1.0, 0.0], [1.0, 0.0]]])
    assert_same(layer.encode(np.array([[1.0, 0.0], [0.0, 0.0]], "float32")), [[1], [0]])


def test_large_alpha_is_hard_quantization(rng):
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    gaps = []
    for alpha in (1.0, 10.0, 1e5):
        keras.utils.set_random_seed(0)
        layer = build(3, 8, 12, alpha=alpha)
        gap = to_numpy(layer(embeddings, training=True)) - to_numpy(layer(embeddings))
        gaps.append(np.abs(gap).max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-5


def test_the_gradient_by_the_codebooks_matches_finite_differences(rng):
    embeddings = rng.normal(size=(3, 4)).astype("float32")
    codebooks = rng.normal(size=(2, 3, 2)).astype("float32")
    weights = rng.normal(size=(3, 4)).astype("float32")
    layer = build_from(codebooks, alpha=2.0)

    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(ops.multiply(weights, outputs))

    def loop(embeddings, codebooks):
        return np.sum(weights * reference.reconstruct_soft(embeddings, codebooks, 2.0))

    arrays = (embeddings, codebooks)
    for argument, found in enumerate(gradients(total, *arrays)):
        for position in np.ndindex(found.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.astype("float64") for array in arrays]
                moved[argument][position] += step
                ends.append(loop(*moved))
            assert found[position] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_gradients_stay_finite_at_the_edges(rng, alpha):
    embeddings = rng.normal(size=(4, 8)).astype("float32")
    embeddings[0] = 0.0
    codebooks = rng.normal(size=(2, 4, 4)).astype("float32")
    codebooks[:, 1] = codebooks[:, 0]
    codebooks[1, 2] = 0.0
    layer = build_from(codebooks, alpha=alpha)

    def total(embeddings, codebooks):
        outputs, _ = layer.stateless_call([codebooks], [], embeddings, training=True)
        return ops.sum(outputs)

    for gradient in gradients(total, embeddings, codebooks):
        assert np.isfinite(gradient).all()


def test_a_call_in_mixed_precision_chooses_the_codeword_that_encoding_chooses():
    layer = build_from([[[1.0, 0.0], [0.0, 1.0]]], dtype="mixed_float16")
    embeddings = np.array([[1.0, 1.0 + 2.0**-13]], "float32")  # float16 makes it a tie
    codes = layer.encode(embeddings)
    assert_same(codes, [[1]])
    assert_same(layer(embeddings), layer.decode(codes))


def test_the_fingerprint_is_the_same_everywhere_and_for_ever():
    """Indices on disk carry it: another digest for the same codebooks would refuse them all."""
    layer = build_from(np.arange(24).reshape(2, 3, 4))
    digest = "8ffe57198379e62041c45db7d8ebc8b2f981227254c001460438363b6db64b71"
    assert layer.codebook_fingerprint() == digest


def test_codes_decode_to_codewords_of_their_own_length_where_it_is_kept(rng):
    codebooks = rng.normal(size=(3, 8, 4)).astype("float32")
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    unit, own = (build_from(codebooks, unit_codewords=wanted) for wanted in (True, False))
    codes = to_numpy(own.encode(embeddings))
    nearest = reference.encode(embeddings, codebooks, unit_codewords=False)
    np.testing.assert_array_equal(codes, nearest)
    # Directions alone decide what training reconstructs.
    assert_close(own(embeddings, training=True), unit(embeddings, training=True))
    assert (codes != to_numpy(unit.encode(embeddings))).any()
    decoded = np.stack([np.concatenate([codebooks[m, k] for m, k in enumerate(c)]) for c in codes])
    assert_close(own.decode(codes), decoded)
    lengths = np.linalg.norm(codebooks, axis=-1)
    assert_close(own.lookup_tables(embeddings), to_numpy(unit.lookup_tables(embeddings)) * lengths)
    assert own.codebook_fingerprint() != unit.codebook_fingerprint()
