"""Laws of fitting codebooks and a rotation to vectors."""

import types

import keras
import numpy as np
import pytest

from tests.core.backend import assert_close, assert_same, to_numpy
from tests.core.quantizers import levels_of_vectors
from tfpqn.codebooks import lloyd
from tfpqn.codebooks.fitting import fit_vectors
from tfpqn.codebooks.joint_levels import (
    add_codewords,
    fit_norms,
    measure_error,
    refit_all_levels,
    start_levels,
)
from tfpqn.codebooks.kmeans import fit_codebooks
from tfpqn.codebooks.rotation import deal_directions
from tfpqn.codebooks.settling import settle_codebooks
from tfpqn.layers import ProductQuantization
from tfpqn.layers.residual_product_quantization import ERROR_SHARE

DIM = 8


def make_network(quantizer, has_rotation=False, dim=DIM):
    """What fitting needs of a network."""
    rotation = None
    if has_rotation:
        rotation = keras.layers.Dense(dim, use_bias=False)
        rotation.build((None, dim))
    return types.SimpleNamespace(quantizer=quantizer, rotation=rotation)


def product(num_codewords=8, similarity="l2"):
    return ProductQuantization(2, num_codewords, unit_codewords=False, similarity=similarity)


def residual(num_levels=3, similarity="l2"):
    return levels_of_vectors(num_levels, similarity)


def draw_vectors(rng):
    """Correlated ones, far from the origin."""
    spread = rng.normal(size=(DIM, DIM)) * np.linspace(2, 0.2, DIM)[:, None]
    return (5 + rng.normal(size=(600, DIM)) @ spread).astype("float32")


@pytest.fixture
def vectors(rng):
    return draw_vectors(rng)


def test_codebooks_of_few_vectors_are_warned_of(vectors):
    # 8 codewords: 39 each are 312.
    fit_vectors(make_network(product()), vectors[:312], iterations=1)
    with pytest.warns(UserWarning, match="8 codewords are fitted to 311 vectors, fewer than 39"):
        fit_vectors(make_network(product()), vectors[:311], iterations=1)


def rotate(network, vectors):
    if network.rotation is None:
        return vectors
    return vectors @ to_numpy(network.rotation.kernel)


def fit(network, vectors, **options):
    """The mean squared error of the vectors after fitting."""
    fit_vectors(network, vectors, **options)
    form = network.quantizer.normalize(rotate(network, vectors))
    return float(np.square(to_numpy(form) - to_numpy(network.quantizer(form))).sum(axis=1).mean())


def weights(network):
    rotation = [] if network.rotation is None else network.rotation.get_weights()
    return [*network.quantizer.get_weights(), *rotation]


@pytest.mark.parametrize("make, has_rotation", [(product, False), (residual, True)])
def test_the_same_seed_gives_the_same(make, has_rotation, vectors):
    networks = [make_network(make(), has_rotation) for _ in range(2)]
    for network in networks:
        fit_vectors(network, vectors, seed=3, iterations=4)
    for one, other in zip(weights(networks[0]), weights(networks[1]), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("has_rotation", [False, True])
def test_more_rounds_err_less(has_rotation, vectors):
    errors = [
        fit(make_network(product(), has_rotation), vectors, iterations=rounds)
        for rounds in (1, 5, 25)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_rotation_is_orthogonal_and_pays(vectors, rng):
    network = make_network(product(), has_rotation=True)
    rotated = fit(network, vectors)
    rotation = to_numpy(network.rotation.kernel)
    assert_close(rotation @ rotation.T, np.eye(DIM), 1e-5)
    assert rotated < 0.9 * fit(make_network(product()), vectors)
    # Where nothing can be gained, little is lost.
    clusters = rng.normal(size=(8, DIM))[rng.integers(0, 8, size=600)].astype("float32")
    noisy = clusters + 0.1 * rng.normal(size=clusters.shape).astype("float32")
    rotated = fit(make_network(product(), has_rotation=True), noisy)
    assert rotated <= 1.01 * fit(make_network(product()), noisy)


def test_the_codewords_of_a_product_are_means_of_what_chooses_them(vectors):
    network = make_network(product())
    fit(network, vectors, iterations=60)
    codes = to_numpy(network.quantizer.encode(vectors))
    codebooks = to_numpy(network.quantizer.codebooks)
    for m, part in enumerate(np.split(vectors, 2, axis=1)):
        means = [part[codes[:, m] == k].mean(axis=0) for k in range(8)]
        assert_close(codebooks[m], np.array(means), 1e-3)


def test_more_levels_err_less(vectors):
    errors = [fit(make_network(residual(levels)), vectors) for levels in (1, 2, 3)]
    assert errors[0] > 1.2 * errors[1] > 1.2 * errors[2]


def test_no_codeword_is_spent_on_a_single_vector_of_many_dimensions():
    rng = np.random.default_rng(0)
    left = rng.normal(size=(2000, 64)).astype(np.float32)
    for level in start_levels((2, 1, 32, 64), left[:, np.newaxis], rng):
        codes = lloyd.assign_nearest(left, level[0])
        assert np.bincount(codes, minlength=32).min() >= 20
        left = left - level[0][codes]


def measure_norm_error(vectors):
    """How far the norms of codes are from those of the items, as a share of how these differ."""
    network = make_network(residual())
    fit_vectors(network, vectors)
    codes = to_numpy(network.quantizer.encode(vectors))
    norms = to_numpy(network.quantizer.norms)
    kept = norms[np.arange(len(norms)), codes].sum(axis=1)
    decoded = to_numpy(network.quantizer.decode(codes))
    errors = np.square(vectors - decoded).sum(axis=1)
    wanted = np.square(decoded).sum(axis=1) + ERROR_SHARE * errors
    return np.std(kept - wanted) / np.std(wanted)


def test_fitted_norms_are_nearly_those_of_the_items(rng):
    assert np.mean([measure_norm_error(draw_vectors(rng)) for _ in range(4)]) < 0.1


def test_norms_of_codes_too_long_to_be_solved_for_lie_in_the_last_position(rng, monkeypatch):
    norms, codes = rng.random(200).astype("float32"), rng.integers(0, 8, size=(200, 3))
    assert fit_norms(norms, codes, 8)[:3].any()
    monkeypatch.setattr("tfpqn.codebooks.joint_levels.MOST_UNKNOWNS", 23)
    parts = fit_norms(norms, codes, 8)
    assert not parts[:3].any()
    assert_close(parts[3], lloyd.cluster_numbers(norms, 8))


def test_a_joint_fit_never_errs_more_with_the_codes_as_they_are(rng, vectors):
    parts = vectors.reshape(-1, 2, DIM // 2)
    levels = rng.normal(size=(3, 2, 8, DIM // 2)).astype("float32")
    codes = rng.integers(0, 8, size=(len(parts), 3, 2))
    refitted = refit_all_levels(levels, codes, parts)
    assert measure_error(refitted, codes, parts) < measure_error(levels, codes, parts)
    # Nothing in the choice of codewords could bring the sums nearer.
    left = parts - add_codewords(refitted, codes)
    for level in range(3):
        for m in range(2):
            for k in range(8):
                chosen = codes[:, level, m] == k
                assert np.abs(left[chosen, m].sum(axis=0)).max() < 0.5


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("make", [product, residual])
@pytest.mark.parametrize("count", [1, 5])
def test_fewer_vectors_than_codewords_are_coded_exactly(similarity, make, count, vectors):
    network = make_network(make(similarity=similarity), has_rotation=True)
    assert fit(network, vectors[:count]) < 1e-3
    assert all(np.isfinite(weight).all() for weight in weights(network))


@pytest.mark.parametrize("make", [product, residual])
def test_constant_columns_and_equal_vectors_are_taken(make, vectors):
    vectors[:, 3:] = 7.0
    network = make_network(make(), has_rotation=True)
    assert np.isfinite(fit(network, vectors))
    assert fit(make_network(make()), np.zeros((30, DIM), "float32")) == 0


def test_what_cannot_be_fitted_is_refused(vectors):
    vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite.*1 of 600 rows, the first at row 3"):
        fit_vectors(make_network(product()), vectors)
    with pytest.raises(ValueError, match="multiple of num_subspaces.*embedding_dim=7"):
        fit_vectors(make_network(product()), vectors[:, :7])
    with pytest.raises(ValueError, match="at least one vector"):
        fit_vectors(make_network(product()), vectors[:0])
    for similarity in ("dot", "l2"):
        with pytest.raises(ValueError, match=f"similarity {similarity} .*float32 .*scale them"):
            fit_vectors(make_network(product(similarity=similarity)), 1e20 * vectors[4:])
    with pytest.raises(ValueError, match='similarity="cosine", "dot" or "l2"'):
        fit_vectors(make_network(ProductQuantization(2, 8)), vectors[4:])


def test_what_training_fits_takes_no_quantizer_that_it_cannot_fit(vectors):
    quantizer = residual()
    with pytest.raises(ValueError, match="Training takes several levels with.*'l2'"):
        fit_codebooks(quantizer, vectors, lambda rows, count: rows[:count])
    with pytest.raises(ValueError, match="settle_codebooks is for similarity=.subspace."):
        settle_codebooks(quantizer, vectors, lambda rows, count: rows[:count])
    with pytest.raises(ValueError, match="norms of the quantizer must be fitted"):
        quantizer.require_usable_codebooks()
    fit_vectors(make_network(quantizer), vectors)
    quantizer.require_usable_codebooks()


def test_progress_is_told_from_one_to_all(vectors):
    seen = []
    network = make_network(residual(), has_rotation=True)
    fit_vectors(network, vectors, iterations=3, progress=lambda *told: seen.append(told))
    assert [told for told in seen if told[0] == "rotation"] == [
        ("rotation", done, 3) for done in (1, 2, 3)
    ]
    levels = [told for told in seen if told[0] == "levels"]
    assert levels == [("levels", done, levels[0][2]) for done in range(1, levels[0][2] + 1)]


def test_directions_are_dealt_so_that_variances_balance(rng):
    vectors = rng.normal(size=(2000, 8)) * [8, 7, 6, 5, 4, 3, 2, 1]
    dealt = vectors @ deal_directions(vectors.astype("float32"), 2)
    logs = np.log(dealt.var(axis=0))
    assert abs(logs[:4].sum() - logs[4:].sum()) < 0.3 * abs(logs[:4].sum())


def test_a_codeword_that_nothing_chooses_moves_onto_a_vector(rng):
    vectors = rng.normal(10.0, size=(50, 3)).astype("float32")
    # Most are equal, and need no second codeword.
    vectors[5:] = 0.0
    codewords = np.concatenate([vectors[[0, 1, 5]], np.full((1, 3), 1e3, "float32")])
    improved = lloyd.improve_codewords(vectors, codewords, rng).codewords
    assert (improved[3] == vectors[:5]).all(axis=1).any()


def test_clustered_numbers_are_means_of_what_is_nearest(rng):
    numbers = rng.normal(size=400)
    centres = lloyd.cluster_numbers(numbers, 5, iterations=200)
    nearest = np.abs(numbers[:, None] - centres).argmin(axis=1)
    assert_close(centres, np.array([numbers[nearest == k].mean() for k in range(5)]), 1e-3)
