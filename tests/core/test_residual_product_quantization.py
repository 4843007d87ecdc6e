"""Laws of residual product quantization, and of its encoding by beam search."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.core.backend import assert_close, few_examples, to_numpy
from tests.core.quantizers import residual
from tfpqn.ops import assign_beam


def test_the_codebooks_start_shorter_from_level_to_level():
    layer = residual(3, 2, 4, 8, codebooks_initializer="ones")
    lengths = np.linalg.norm(to_numpy(layer.codebooks), axis=-1)
    assert_close(lengths, np.array([1.0, 0.5, 0.25])[:, None, None] * np.ones((3, 2, 4)))


# Beam search, against all sums of codewords


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


def test_codes_by_any_beam_are_of_one_kind(rng):
    embeddings = rng.normal(size=(300, 12)).astype("float32")
    narrow, wide = (residual(3, 2, 8, 12, unit_codewords=False, beam_size=b) for b in (1, 8))
    wide.set_weights(narrow.get_weights())
    codes = to_numpy(wide.encode(embeddings))
    assert (codes != to_numpy(narrow.encode(embeddings))).any()
    assert wide.codebook_fingerprint() == narrow.codebook_fingerprint()
    assert_close(wide.decode(codes), narrow.decode(codes))
