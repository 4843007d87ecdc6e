"""Laws of encoding by beam search, against all sums of codewords."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.backend import assert_close, few_examples, to_numpy
from tfpqn.layers import ResidualProductQuantization
from tfpqn.layers.codebooks import refit_levels
from tfpqn.ops import assign_beam

OWN_LENGTHS = {"residuals": "reconstructions", "unit_codewords": False}


def draw(seed, num_levels, num_subspaces, num_codewords, subvector_dim, num_items=4):
    rng = np.random.default_rng(seed)
    codebooks = rng.normal(size=(num_levels, num_subspaces, num_codewords, subvector_dim))
    targets = rng.normal(size=(num_items, num_subspaces, subvector_dim))
    return targets.astype("float32"), codebooks.astype("float32")


def errors_of(targets, codebooks, codes):
    """Squared distances `[items, num_subspaces]` of the sums that codes name."""
    subspaces = np.arange(targets.shape[1])
    sums = sum(words[subspaces, level] for words, level in zip(codebooks, codes, strict=True))
    return np.square(targets - sums).sum(axis=-1)


def smallest_errors(targets, codebooks):
    num_levels, num_subspaces, num_codewords, _ = codebooks.shape
    all_codes = itertools.product(range(num_codewords), repeat=num_levels)
    return np.min(
        [
            errors_of(targets, codebooks, np.array(codes)[:, None, None].repeat(num_subspaces, 2))
            for codes in all_codes
        ],
        axis=0,
    )


def beam_codes(targets, codebooks, beam_size):
    return [to_numpy(level) for level in assign_beam(targets, list(codebooks), beam_size)]


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(1, 4))
SEEDS = st.integers(0, 2**32 - 1)


@few_examples
@given(SIZES, SEEDS)
def test_a_beam_that_holds_every_sum_finds_the_nearest(sizes, seed):
    targets, codebooks = draw(seed, *sizes)
    codes = beam_codes(targets, codebooks, sizes[2] ** sizes[0])
    assert_close(errors_of(targets, codebooks, codes), smallest_errors(targets, codebooks))


@few_examples
@given(SIZES, SEEDS)
def test_a_beam_of_one_takes_the_nearest_codeword_at_each_level(sizes, seed):
    targets, codebooks = draw(seed, *sizes)
    left = targets.copy()
    for words, codes in zip(codebooks, beam_codes(targets, codebooks, 1), strict=True):
        distances = np.square(left[:, :, None] - words).sum(axis=-1)
        chosen = np.take_along_axis(distances, codes[..., None], axis=-1)[..., 0]
        assert_close(chosen, distances.min(axis=-1))
        left = left - words[np.arange(sizes[1]), codes]


def build(num_levels=3, num_subspaces=2, num_codewords=8, **options):
    layer = ResidualProductQuantization(
        num_levels, num_subspaces, num_codewords, **{**OWN_LENGTHS, **options}
    )
    layer.build((None, 12))
    return layer


@pytest.fixture
def embeddings(rng):
    return rng.normal(size=(300, 12)).astype("float32")


def test_codes_of_a_wider_beam_are_nearer_to_what_they_stand_for(embeddings):
    errors = []
    for beam_size in (1, 4, 16):
        keras.utils.set_random_seed(0)
        layer = build(beam_size=beam_size)
        soft, hard = (to_numpy(layer(embeddings, training=soft)) for soft in (True, False))
        errors.append(np.square(soft - hard).sum(axis=-1).mean())
    assert errors[0] > errors[1] > errors[2]


def test_partial_sums_are_what_the_first_levels_of_a_code_decode_to(embeddings):
    layer = build(beam_size=4)
    quantized = layer.quantize_embeddings(embeddings)
    for num_levels in (1, 2, 3):
        decoded = layer.prefix(num_levels).decode(quantized.codes[:, : 2 * num_levels])
        assert_close(quantized.partial_sums[:, num_levels - 1], decoded)


def test_training_sees_no_beam(embeddings):
    narrow, wide = build(), build(beam_size=8)
    wide.set_weights(narrow.get_weights())
    assert_close(wide(embeddings, training=True), narrow(embeddings, training=True))


def test_one_level_is_coded_as_without_a_beam(embeddings):
    narrow, wide = build(1), build(1, beam_size=8)
    wide.set_weights(narrow.get_weights())
    np.testing.assert_array_equal(
        to_numpy(wide.encode(embeddings)), to_numpy(narrow.encode(embeddings))
    )


def test_codes_by_any_beam_are_of_one_kind(embeddings):
    narrow, wide = build(), build(beam_size=8)
    wide.set_weights(narrow.get_weights())
    codes = to_numpy(wide.encode(embeddings))
    assert (codes != to_numpy(narrow.encode(embeddings))).any()
    assert wide.codebook_fingerprint() == narrow.codebook_fingerprint()
    assert_close(wide.decode(codes), narrow.decode(codes))


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_settling_brings_codes_nearer_to_the_soft_reconstructions(rng, unit_codewords):
    embeddings = rng.normal(size=(2000, 12)).astype("float32")

    def cluster(vectors, num_clusters):
        return vectors[:num_clusters]

    errors, first_levels = {}, []
    for beam_size in (1, 8):
        keras.utils.set_random_seed(0)
        layer = ResidualProductQuantization(
            2,
            2,
            8,
            residuals="reconstructions",
            unit_codewords=unit_codewords,
            beam_size=beam_size,
        )
        layer.build((None, 12))
        layer.settle_codebooks(embeddings, cluster)
        first_levels.append(to_numpy(layer.codebooks)[0])
        soft, hard = (to_numpy(layer(embeddings, training=soft)) for soft in (True, False))
        errors[beam_size] = np.square(soft - hard).sum(axis=-1).mean()
    assert errors[8] < 0.7 * errors[1]
    # Soft reconstructions are made of it, and must stay what training has seen.
    np.testing.assert_array_equal(*first_levels)


@few_examples
@given(SIZES, SEEDS)
def test_refitted_levels_are_nearer_by_the_same_codes(sizes, seed):
    targets, codebooks = draw(seed, *sizes, num_items=30)
    before = codebooks.copy()
    codes = np.stack(beam_codes(targets, codebooks, 4))
    error = errors_of(targets, codebooks, codes).mean()
    words = [level[np.arange(sizes[1]), code] for level, code in zip(codebooks, codes, strict=True)]
    left = targets - sum(words) + np.stack(words)
    # In two batches, as of many items.
    halves = [(codes[:, rows], left[:, rows]) for rows in (slice(13), slice(13, None))]
    refit_levels(codebooks, halves)
    assert errors_of(targets, codebooks, codes).mean() <= error + 1e-6
    np.testing.assert_array_equal(codebooks[0], before[0])


def test_a_refitted_level_is_the_mean_of_what_the_other_leaves():
    codebooks = np.array([[[[1.0], [2.0]]], [[[9.0], [7.0]]]])
    targets = np.array([[[5.0]], [[7.0]], [[8.0]]])
    codes = np.array([[[0], [0], [1]], [[0], [0], [0]]])
    words = np.stack([codebooks[level][0][codes[level]] for level in (0, 1)])
    refit_levels(codebooks, [(codes, targets - words.sum(axis=0) + words)])
    # 5 - 1, 7 - 1 and 8 - 2; nothing has chosen the other.
    np.testing.assert_allclose(codebooks[1, 0], [[16 / 3], [7.0]])


def test_a_refitted_codeword_may_become_zero():
    codebooks = np.array([[[[1.0]]], [[[0.25]]]])
    codes = np.zeros((2, 2, 1), int)
    left = np.array([[[0.75], [1.25]], [[-0.5], [0.5]]])[..., None]
    refit_levels(codebooks, [(codes, left)])
    assert codebooks[1, 0, 0, 0] == 0.0


@pytest.mark.parametrize("beam_size", [0, -1, 1.5])
def test_a_beam_of_no_whole_number_is_refused(beam_size):
    with pytest.raises(ValueError, match="beam_size"):
        build(beam_size=beam_size)


def test_a_beam_over_residuals_of_embeddings_is_refused():
    with pytest.raises(ValueError, match="beam_size must be 1 with residuals='embeddings'.*: 2"):
        ResidualProductQuantization(2, 2, 8, beam_size=2)
