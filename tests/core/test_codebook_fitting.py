"""Laws of fitting codebooks: the k-means start, the revival of codewords, and settling."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.core.backend import assert_close, assert_same, to_numpy
from tests.core.quantizers import (
    draw,
    first_vectors,
    product,
    residual,
    temporal,
    with_codebooks,
)
from tfpqn.codebooks.kmeans import fit_codebooks
from tfpqn.codebooks.revival import revive_codewords
from tfpqn.codebooks.settling import SETTLING_ROUNDS, refit_levels, settle_codebooks
from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
)


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_fitting_clusters_unit_subvectors_then_what_codes_leave_of_soft_ones(rng, unit_codewords):
    layer = residual(2, 2, 3, 8, alpha=3.0, unit_codewords=unit_codewords)
    embeddings = draw(rng, 10, 8)
    seen = []

    def cluster(vectors, num_clusters):
        seen.append(vectors.copy())
        assert num_clusters == 3
        return 0.5 * vectors[:num_clusters]

    fit_codebooks(layer, embeddings, cluster)
    subvectors = reference.unit(reference.split(embeddings, 2))
    first = np.moveaxis(subvectors[:3], 0, 1) * (1.0 if unit_codewords else 0.5)
    codes = reference.encode(embeddings, first, unit_codewords=unit_codewords)
    soft = reference.split(reference.reconstruct_soft(embeddings, first, 3.0), 2)
    left = soft - first[np.arange(2), codes]
    for m in range(2):
        assert_close(seen[m], subvectors[:, m])
        assert_close(seen[2 + m], left[:, m])
    # Codewords of the first level are stored as they are used, those of the second as they came.
    assert_close(layer.codebooks, np.stack([first, 0.5 * np.moveaxis(left[:3], 0, 1)]))


def test_fitting_builds_the_layer_and_keeps_codewords_without_a_centre(rng):
    layer = ResidualProductQuantization(2, 2, 5)
    layer.build((None, 8))
    before = reference.unit_first(to_numpy(layer.codebooks))
    fit_codebooks(layer, draw(rng, 2, 8), lambda vectors, _: vectors)
    after = to_numpy(layer.codebooks)
    for level in range(2):
        assert_close(after[level, :, 2:], before[level][:, 2:])
        assert not np.allclose(after[level, :, :2], before[level][:, :2])
    unbuilt = ProductQuantization(2, 3)
    fit_codebooks(unbuilt, draw(rng, 5, 8), first_vectors)
    assert unbuilt.embedding_dim == 8


def test_a_centre_at_zero_is_taken_in_later_levels_only():
    """In the first level a zero codeword had no direction, and no gradient for ever."""
    layer = residual(2, 1, 2, 2)
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    fit_codebooks(layer, embeddings, lambda vectors, _: np.zeros((2, 2), "float32"))
    lengths = np.linalg.norm(to_numpy(layer.codebooks), axis=-1)
    assert (lengths[0] > 0.5).all()
    assert_same(lengths[1], np.zeros((1, 2)))


@pytest.mark.parametrize("similarity", ["dot", "l2"])
def test_codebooks_of_whole_vectors_are_fitted_and_revived_at_any_scale(rng, similarity):
    embeddings = 1e-5 * draw(rng, 50, 8)
    layer = product(2, 8, 8, similarity=similarity)
    fit_codebooks(layer, embeddings, first_vectors)
    assert_same(layer.codebooks, reference.split(embeddings[:8], 2).swapaxes(0, 1))
    dead = product(2, 8, 8, similarity=similarity, codebooks_initializer="zeros")
    assert revive_codewords(dead, embeddings, rng) == 14


def test_clips_and_pooled_clips_fit_and_revive_the_codebooks_of_all_segments(rng):
    layer = temporal(2, 2, 3, 4)
    clips = draw(rng, 12, 4, 4)
    pooled = to_numpy(layer.normalize(clips))
    items = reference.unit(reference.split(pooled, 4))
    for embeddings in (clips, pooled):
        fit_codebooks(layer, embeddings, first_vectors)
        assert_close(to_numpy(layer.codebooks)[0], items[:3].swapaxes(0, 1))
    dead = temporal(2, 2, 4, 4, codebooks_initializer="ones")
    assert revive_codewords(dead, draw(rng, 50, 4, 4), rng) == 12


def test_dead_codewords_of_the_first_level_are_used_after_their_revival(rng):
    layer = residual(2, 2, 8, 4, codebooks_initializer="ones")  # only the first is chosen
    embeddings = draw(rng, 200, 4)
    before = to_numpy(layer.codebooks).copy()
    assert revive_codewords(layer, embeddings, rng) == 14
    after = to_numpy(layer.codebooks)
    # What training leaves alone is not revived.
    assert_same(after[1], before[1])
    assert_close(after[0, :, 0], before[0, :, 0])
    codes = to_numpy(layer.encode(embeddings))
    for m in range(2):
        assert set(codes[:, m]) == set(range(8))
    # Each of the others stands on one of the data's own unit subvectors.
    subvectors = reference.unit(reference.split(embeddings, 2))
    similarities = np.einsum("bmd,mkd->mkb", subvectors, after[0, :, 1:])
    assert_close(similarities.max(axis=-1), np.ones((2, 7)))


def test_revival_ends_when_every_embedding_has_a_codeword_of_its_own(rng):
    """Fewer embeddings than dead codewords revive as many as they are."""
    layer = product(2, 8, 4, codebooks_initializer="ones")
    embeddings = draw(rng, 3, 4)
    assert revive_codewords(layer, embeddings, rng) == 6
    assert_close(layer(embeddings), layer.normalize(embeddings))
    assert revive_codewords(layer, embeddings, rng) == 0
    assert revive_codewords(layer, embeddings[:0], rng) == 0


def test_revival_does_not_move_codewords_onto_zero(rng):
    layer = product(1, 4, 2, codebooks_initializer="ones")
    embeddings = np.zeros((20, 2), "float32")
    embeddings[0] = (1.0, -1.0)
    revive_codewords(layer, embeddings, rng)
    assert (np.linalg.norm(to_numpy(layer.codebooks), axis=-1) > 0.5).all()


def no_cluster(vectors, num_clusters):
    raise AssertionError("one level needs no clustering to settle")


@pytest.mark.parametrize(("rows_at_once", "soft_codes"), [(7, True), (1024, False)])
def test_settling_takes_means_of_soft_reconstructions_and_chooses_anew_by_turns(
    rng, rows_at_once, soft_codes, monkeypatch
):
    monkeypatch.setattr("tfpqn.codebooks.levels.ROWS_AT_ONCE", rows_at_once)
    codebooks = draw(rng, 2, 40, 3)
    layer = with_codebooks(codebooks, alpha=3.0, unit_codewords=False, soft_codes=soft_codes)
    embeddings = draw(rng, 60, 6)
    expected = reference.unit(codebooks)
    for by_soft in (False, True)[: 1 + soft_codes]:
        soft = reference.split(reference.reconstruct_soft(embeddings, expected, 3.0), 2)
        targets = soft if by_soft else reference.unit(reference.split(embeddings, 2))
        for _ in range(SETTLING_ROUNDS):
            codes = reference.choose(targets, expected)
            for m, k in np.ndindex(2, 40):
                if k in codes[:, m]:
                    expected[m, k] = np.mean(soft[codes[:, m] == k, m], axis=0)
    assert len(set(codes[:, 0])) < 40  # some stay as they are
    settle_codebooks(layer, embeddings, no_cluster)
    assert_close(layer.codebooks, expected)


def test_a_codeword_whose_reconstructions_cancel_out_keeps_its_direction():
    codebooks = np.array([[[1, 0], [-1, 0]]], "float32")
    # All assignments are equal.
    layer = with_codebooks(codebooks, alpha=1e-6, unit_codewords=False)
    settle_codebooks(layer, np.array([[1, 0], [-1, 0]], "float32"), no_cluster)
    assert_close(layer.codebooks, codebooks)


def test_unit_codewords_of_one_level_cannot_be_settled(rng):
    with pytest.raises(ValueError, match="or several levels. Received: unit_codewords=True"):
        settle_codebooks(product(2, 3, 8), draw(rng, 5, 8), no_cluster)


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_settled_levels_are_the_centres_of_what_codes_leave(rng, unit_codewords):
    layer = residual(3, 2, 8, 8, alpha=3.0, unit_codewords=unit_codewords)
    alone = product(2, 8, 8, alpha=3.0, unit_codewords=unit_codewords)
    alone.codebooks.assign(to_numpy(layer.codebooks)[0])
    embeddings = draw(rng, 30, 8)
    if not unit_codewords:
        settle_codebooks(alone, embeddings, no_cluster)
    settle_codebooks(layer, embeddings, first_vectors)
    after = to_numpy(layer.codebooks)
    assert_close(after[0], alone.codebooks)
    soft = reference.split(reference.reconstruct_soft(embeddings, after[0], 3.0), 2)
    left = soft - reference.split(to_numpy(alone(embeddings)), 2)
    assert_close(after[1], np.moveaxis(left[:8], 0, 1))


@pytest.mark.parametrize("unit_codewords", [True, False])
def test_settling_for_a_beam_brings_codes_nearer_to_the_soft_reconstructions(rng, unit_codewords):
    embeddings = draw(rng, 2000, 12)
    errors, first_levels = {}, []
    for beam_size in (1, 8):
        keras.utils.set_random_seed(0)
        layer = residual(2, 2, 8, 12, unit_codewords=unit_codewords, beam_size=beam_size)
        settle_codebooks(layer, embeddings, first_vectors)
        first_levels.append(to_numpy(layer.codebooks)[0])
        soft, hard = (to_numpy(layer(embeddings, training=soft)) for soft in (True, False))
        errors[beam_size] = np.square(soft - hard).sum(axis=-1).mean()
    assert errors[8] < 0.7 * errors[1]
    # Soft reconstructions are made of it, and must stay what training has seen.
    assert_same(*first_levels)


def test_a_refitted_level_is_the_mean_of_what_the_other_leaves():
    levels = np.array([[[[1.0], [2.0]]], [[[9.0], [7.0]]]])
    codes = np.array([[[0], [0]], [[0], [0]], [[1], [0]]])
    refit_levels(levels, codes, np.array([[[5.0]], [[7.0]], [[8.0]]]))
    # 5 - 1, 7 - 1 and 8 - 2; nothing has chosen the other.
    np.testing.assert_allclose(levels[1, 0], [[16 / 3], [7.0]])
    refit_levels(levels, codes, np.array([[[1.0]], [[0.5]], [[2.5]]]))
    assert levels[1, 0, 0, 0] == 0.0  # a later level may have a codeword at zero
