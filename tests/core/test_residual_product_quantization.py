"""Laws of residual product quantization as a layer, against loops over levels and residuals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.core.backend import assert_close, assert_same, few_examples, to_numpy
from tfpqn.layers import ProductQuantization, ResidualProductQuantization


def build_from(codebooks, **options):
    num_levels, num_subspaces, num_codewords, subvector_dim = np.shape(codebooks)
    layer = ResidualProductQuantization(num_levels, num_subspaces, num_codewords, **options)
    layer.build((None, num_subspaces * subvector_dim))
    layer.codebooks.assign(np.array(codebooks, "float32"))
    return layer


def draw_codebooks(rng, *shape):
    """Of any length, and smaller from level to level."""
    scales = 0.6 ** np.arange(shape[0])[:, None, None, None]
    return (rng.normal(size=shape) * scales).astype("float32")


@few_examples
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 7), st.integers(1, 4)),
    st.floats(0.5, 8.0),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_soft_and_hard_quantization_match_the_loops(sizes, alpha, unit_codewords, seed):
    rng = np.random.default_rng(seed)
    codebooks = draw_codebooks(rng, *sizes)
    embeddings = rng.normal(size=(3, sizes[1] * sizes[3])).astype("float32")
    layer = build_from(codebooks, alpha=alpha, unit_codewords=unit_codewords)
    soft = reference.reconstruct_soft(embeddings, codebooks[0], alpha)
    assert_close(layer(embeddings, training=True), soft)
    levels = reference.unit_first(codebooks) if unit_codewords else codebooks
    # Codewords that are equally near, up to rounding, may be chosen either way.
    codes = to_numpy(layer.encode(embeddings))
    assert reference.residual_detours(embeddings, soft, levels, codes).max() < 1e-4
    assert_close(layer.decode(codes), reference.residual_decode(codes, levels))
    tables = reference.residual_lookup_tables(embeddings, levels)
    assert_close(layer.lookup_tables(embeddings), tables)


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_one_level_is_product_quantization_to_the_last_bit(rng, unit_codewords):
    codebooks = draw_codebooks(rng, 1, 3, 8, 4)
    layer = build_from(codebooks, alpha=3.0, unit_codewords=unit_codewords, beam_size=4)
    product = ProductQuantization(3, 8, alpha=3.0, unit_codewords=unit_codewords)
    product.build((None, 12))
    product.codebooks.assign(codebooks[0])
    embeddings = rng.normal(size=(20, 12)).astype("float32")
    for training in (False, True):
        first, second = (
            quantizer.quantize_embeddings(embeddings, training) for quantizer in (layer, product)
        )
        for each, other in zip(first, second, strict=True):
            assert_same(each, other)
    assert_same(layer.lookup_tables(embeddings), product.lookup_tables(embeddings))
    codes = to_numpy(product.encode(embeddings))
    assert_same(layer.decode(codes), product.decode(codes))


def test_with_a_zero_codeword_in_each_later_level_the_error_never_grows(rng):
    """The error of what codes stand for: the soft reconstruction."""
    codebooks = draw_codebooks(rng, 4, 2, 8, 3)
    codebooks[1:, :, 5] = 0.0
    layer = build_from(codebooks)
    embeddings = rng.normal(size=(30, 6)).astype("float32")
    sums = np.stack([to_numpy(layer.prefix(number)(embeddings)) for number in (1, 2, 3, 4)], axis=1)
    gaps = sums - to_numpy(layer(embeddings, training=True))[:, None]
    errors = np.square(gaps.reshape(30, 4, 2, 3)).sum(axis=-1)
    assert (np.diff(errors, axis=1) <= 1e-5).all()
    assert errors[:, 3].mean() < 0.8 * errors[:, 0].mean()


def test_the_codebooks_start_shorter_from_level_to_level():
    layer = ResidualProductQuantization(3, 2, 4, codebooks_initializer="ones")
    layer.build((None, 8))
    lengths = np.linalg.norm(to_numpy(layer.codebooks), axis=-1)
    assert_close(lengths, np.array([1.0, 0.5, 0.25])[:, None, None] * np.ones((3, 2, 4)))


@pytest.mark.parametrize(
    ("shape", "digest"),
    [
        ((1, 2, 3, 4), "5e9289b0d583dea3aa958628454be5e9f170a4082c57362a0223555dd7e0d2d3"),
        ((2, 2, 3, 4), "2e11a66637d2679d286d35b8621aba9ea5c3773d01a208f89ed4da980bf2fefa"),
    ],
)
def test_the_fingerprint_is_the_same_everywhere_and_for_ever(shape, digest):
    """Indices on disk carry it: another digest for the same codebooks would refuse them all."""
    layer = build_from(np.arange(np.prod(shape)).reshape(shape))
    assert layer.codebook_fingerprint() == digest


def test_the_fingerprint_tells_layouts_of_the_same_numbers_apart():
    numbers = np.arange(1.0, 25.0)
    shapes = ((1, 2, 3, 4), (2, 1, 3, 4), (3, 2, 2, 2), (2, 3, 2, 2))
    prints = {build_from(numbers.reshape(shape)).codebook_fingerprint() for shape in shapes}
    prints.add(build_from(numbers.reshape(shapes[1]), unit_codewords=False).codebook_fingerprint())
    product = ProductQuantization(2, 3)
    product.build((None, 8))
    product.codebooks.assign(numbers.reshape(2, 3, 4))
    assert len(prints | {product.codebook_fingerprint()}) == len(shapes) + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be an integer of at least 1.*num_levels=0"),
        ({"num_levels": 1.5}, "num_levels must be an integer .*num_levels=1.5"),
        ({"beam_size": 0}, "beam_size must be an integer of at least 1.*beam_size=0"),
        ({"beam_size": 1.5}, "beam_size must be an integer .*beam_size=1.5"),
    ],
)
def test_bad_arguments_of_its_own_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualProductQuantization(**options)
