"""Laws of quantizing whole vectors by cosine, inner product and distance."""

import itertools

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import assert_close, assert_same, to_numpy
from tfpqn.layers import ProductQuantization, ResidualProductQuantization
from tfpqn.layers.residual_product_quantization import ERROR_SHARE
from tfpqn.ops import adc_scores, assign_beam, assign_beam_by_products, improve_in_turn

WHOLE = ("cosine", "dot", "l2")
DIM = 12


def make(similarity, num_levels=None, **options):
    options = {"unit_codewords": False, "similarity": similarity, **options}
    if num_levels is None:
        quantizer = ProductQuantization(3, 16, **options)
    else:
        quantizer = ResidualProductQuantization(num_levels, 3, 16, **options)
    quantizer.build((None, DIM))
    return quantizer


def make_fitted(similarity, num_levels, rng):
    """Codewords that differ in length, and norms that cover what sums of them have."""
    quantizer = make(similarity, num_levels)
    quantizer.codebooks.assign(rng.normal(size=quantizer.codebooks.shape))
    if getattr(quantizer, "has_norms", False):
        norms = np.zeros(quantizer.norms.shape)
        norms[0] = rng.normal(size=16)
        norms[-1] = np.linspace(0, 60, 16)
        quantizer.norms.assign(norms)
    return quantizer


@pytest.fixture
def vectors(rng):
    return (3 * rng.normal(size=(40, DIM))).astype("float32")


@pytest.fixture
def queries(rng):
    return (2 * rng.normal(size=(5, DIM))).astype("float32")


def normalized(similarity, vectors):
    return reference.unit(vectors) if similarity == "cosine" else vectors.astype("float64")


def score(similarity, query, reconstruction):
    """By the definition, for one query of the form that scores compare."""
    if similarity == "dot":
        return reference.inner_product(query, reconstruction)
    distance = sum((a - b) ** 2 for a, b in zip(query, reconstruction, strict=True))
    return -distance if similarity == "l2" else 1 - distance / 2


def scores(similarity, queries, reconstructions):
    queries = normalized(similarity, queries)
    return np.array([[score(similarity, q, x) for x in reconstructions] for q in queries])


def scores_of(quantizer, queries, codes):
    return to_numpy(adc_scores(quantizer.lookup_tables(queries), codes))


@pytest.mark.parametrize(
    ("similarity", "num_levels"), [*itertools.product(WHOLE, (None, 1)), ("dot", 2)]
)
def test_a_score_of_one_level_or_by_inner_product_is_that_of_the_reconstruction(
    similarity, num_levels, vectors, queries, rng
):
    quantizer = make_fitted(similarity, num_levels, rng)
    codes = quantizer.encode(vectors)
    assert codes.shape == (40, 3 * (num_levels or 1)), "no norm"
    expected = scores(similarity, queries, to_numpy(quantizer.decode(codes)))
    assert_close(scores_of(quantizer, queries, codes), expected, 1e-4)


@pytest.mark.parametrize("similarity", WHOLE)
def test_encoding_finds_the_nearest_codeword(similarity, vectors, rng):
    quantizer = make_fitted(similarity, None, rng)
    codebooks = to_numpy(quantizer.codebooks)
    parts = reference.split(normalized(similarity, vectors), 3)
    nearest = [
        [reference.squared_distances(part[m], codebooks[m]).argmin() for m in range(3)]
        for part in parts
    ]
    assert_same(quantizer.encode(vectors), np.array(nearest))


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_levels_score_the_expected_distance_up_to_the_rounding_of_norms(
    similarity, vectors, queries, rng
):
    quantizer = make_fitted(similarity, 2, rng)
    codes = quantizer.encode(vectors)
    assert codes.shape == (40, 2 * 3 + 1)
    decoded = to_numpy(quantizer.decode(codes)).astype("float64")
    errors = ERROR_SHARE * np.square(normalized(similarity, vectors) - decoded).sum(axis=1)
    weight = 1.0 if similarity == "l2" else 0.5
    norms = to_numpy(quantizer.norms)
    wanted = np.square(decoded).sum(axis=1) + errors
    kept = norms[np.arange(7), to_numpy(codes)].sum(axis=1)
    # The last position is the one that brings the sum of all nearest.
    others = kept - norms[6, to_numpy(codes)[:, 6]]
    assert_close(
        np.abs(kept - wanted), np.abs(others[:, None] + norms[6] - wanted[:, None]).min(1), 1e-4
    )
    expected = scores(similarity, queries, decoded) - weight * (errors + kept - wanted)
    assert_close(scores_of(quantizer, queries, codes), expected, 1e-4)


@pytest.mark.parametrize("num_levels", [None, 2])
@pytest.mark.parametrize("similarity", WHOLE)
def test_a_layer_comes_back_with_its_weights(similarity, num_levels, vectors, rng, tmp_path):
    quantizer = make_fitted(similarity, num_levels, rng)
    inputs = keras.Input((DIM,))
    keras.Model(inputs, quantizer(inputs)).save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert again.get_config() == quantizer.get_config()
    assert again.codebook_fingerprint() == quantizer.codebook_fingerprint()
    assert_same(again.encode(vectors), quantizer.encode(vectors))
    assert_same(again.lookup_tables(vectors), quantizer.lookup_tables(vectors))


@pytest.mark.parametrize("num_levels", [None, 2])
def test_a_configuration_without_similarity_is_one_of_subspaces(num_levels):
    config = make("subspace", num_levels).get_config()
    del config["similarity"]
    kind = ProductQuantization if num_levels is None else ResidualProductQuantization
    assert kind.from_config(config).similarity == "subspace"


def test_the_fingerprint_tells_similarities_and_norms_apart(rng):
    quantizers = [make(similarity) for similarity in ("subspace", *WHOLE)]
    for quantizer in quantizers:
        quantizer.codebooks.assign(to_numpy(quantizers[0].codebooks))
    assert len({quantizer.codebook_fingerprint() for quantizer in quantizers}) == 4
    quantizer = make_fitted("l2", 2, rng)
    before = quantizer.codebook_fingerprint()
    quantizer.norms.assign(2 * to_numpy(quantizer.norms))
    assert quantizer.codebook_fingerprint() != before


def test_a_prefix_is_shorter_only_where_codes_hold_no_norm(vectors, rng):
    quantizer = make_fitted("dot", 2, rng)
    assert quantizer.prefix(1).code_length == 3
    for similarity in ("cosine", "l2"):
        quantizer = make_fitted(similarity, 2, rng)
        whole = quantizer.prefix(2)
        assert whole.codebook_fingerprint() == quantizer.codebook_fingerprint()
        assert_same(whole.encode(vectors), quantizer.encode(vectors))
        with pytest.raises(ValueError, match="must be 2, all levels.*Received: num_levels=1"):
            quantizer.prefix(1)


@pytest.mark.parametrize("similarity", WHOLE)
def test_training_softens_by_distance(similarity, vectors, rng):
    quantizer = make_fitted(similarity, None, rng)
    quantizer.alpha = 0.3
    codebooks = to_numpy(quantizer.codebooks).astype("float64")
    parts = reference.split(normalized(similarity, vectors), 3)
    soft = [
        [reference.assign_soft(part[m], codebooks[m], 0.3) @ codebooks[m] for m in range(3)]
        for part in parts
    ]
    assert_close(quantizer(vectors, training=True), reference.merge(np.array(soft)), 1e-4)


@pytest.mark.parametrize("beam_size", [1, 3, 20])
@pytest.mark.parametrize("num_levels", [1, 4])
def test_both_beams_choose_the_same_codes(num_levels, beam_size, rng):
    codebooks = list(rng.normal(size=(num_levels, 2, 6, 5)).astype("float32"))
    targets = rng.normal(size=(30, 2, 5)).astype("float32")
    first = assign_beam(targets, codebooks, beam_size)
    second = assign_beam_by_products(targets, codebooks, beam_size)
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)


def test_turns_end_where_no_single_codeword_brings_a_sum_nearer(rng):
    codebooks = list(rng.normal(size=(4, 2, 6, 5)).astype("float32"))
    targets = rng.normal(size=(30, 2, 5)).astype("float32")

    def measure(codes, m, row):
        pairs = zip(codebooks, codes, strict=True)
        words = [level[m, to_numpy(own)[row, m]] for level, own in pairs]
        return words, np.square(targets[row, m] - np.sum(words, axis=0)).sum()

    before = assign_beam(targets, codebooks, 1)
    after = improve_in_turn(targets, codebooks, before, 20)
    gains = 0
    for row, m in np.ndindex(30, 2):
        words, error = measure(after, m, row)
        gains += measure(before, m, row)[1] - error
        for level, word in zip(codebooks, words, strict=True):
            others = np.square(targets[row, m] - (np.sum(words, axis=0) - word + level[m]))
            assert others.sum(axis=1).min() >= error - 1e-5
    assert gains > 1
