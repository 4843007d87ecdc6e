"""Laws of moving codewords for the ranking of neighbours."""

import types

import numpy as np
import pytest

from tests.core.backend import assert_close, assert_same, to_numpy
from tests.core.quantizers import levels_of_vectors
from tfpqn.codebooks import ranking
from tfpqn.codebooks.fitting import fit_vectors
from tfpqn.codebooks.joint_levels import CodeChooser, add_codewords, fit_levels
from tfpqn.codebooks.levels import read_levels
from tfpqn.layers.residual_product_quantization import ERROR_SHARE

DIM = 8


def residual(similarity="l2"):
    quantizer = levels_of_vectors(2, similarity)
    quantizer.build((None, DIM))
    return quantizer


@pytest.fixture
def vectors(rng):
    """Of low rank, as those of real items are."""
    return (rng.normal(size=(1200, 4)) @ rng.normal(size=(4, DIM))).astype("float32")


@pytest.fixture
def short_ranking(monkeypatch):
    for name, value in {"FEWEST_VECTORS": 1000, "STEPS": 40, "OTHERS": 200}.items():
        monkeypatch.setattr(ranking, name, value)


def cross_entropy(levels, codes, items, queries, is_same, temperature):
    """By loops: mean over queries of what the raw ranking expects of the coded one."""
    flat = items.reshape(len(items), -1)
    decoded = add_codewords(levels, codes).reshape(flat.shape)
    losses = []
    for query, same in zip(queries, is_same, strict=True):
        raw, coded = [], []
        for item, other, left_out in zip(flat, decoded, same, strict=True):
            if not left_out:
                raw.append(np.square(query - item).sum())
                error = np.square(item - other).sum()
                coded.append(np.square(query - other).sum() + ERROR_SHARE * error)
        raw, coded = (-np.array(distances) / temperature for distances in (raw, coded))
        wanted = np.exp(raw - np.logaddexp.reduce(raw))
        losses.append(-(wanted * (coded - np.logaddexp.reduce(coded))).sum())
    return np.mean(losses)


@pytest.fixture
def step(rng):
    """Arguments of `measure_slopes`: 12 items, of which two are queries too."""
    items = rng.normal(size=(12, 2, DIM // 2))
    queries = items.reshape(12, -1)[[0, 5]]
    is_same = np.arange(12) == np.array([[0], [5]])
    levels = rng.normal(size=(2, 2, 3, DIM // 2)) * 0.5
    return levels, rng.integers(0, 3, size=(12, 2, 2)), items, queries, is_same, 3.0


def test_slopes_are_those_of_the_cross_entropy(step):
    slopes = ranking.measure_slopes(*step)
    assert np.abs(slopes).max() > 1e-2
    for place in np.ndindex(slopes.shape):
        losses = []
        for change in (1e-4, -1e-4):
            levels = step[0].copy()
            levels[place] += change
            losses.append(cross_entropy(levels, *step[1:]))
        assert abs(slopes[place] - (losses[0] - losses[1]) / 2e-4) < 1e-5


def test_neighbours_are_the_nearest_but_the_query_itself(vectors, rng):
    rows, nearest, tenth = ranking.find_neighbours(vectors, rng)
    tenths = []
    for row, found in zip(rows[:50], nearest, strict=False):
        distances = np.square(vectors - vectors[row]).sum(axis=1)
        distances[row] = np.inf
        assert set(found) == set(np.argsort(distances)[: ranking.LAST_RANK])
    for row in rows:
        tenths.append(np.sort(np.square(vectors - vectors[row]).sum(axis=1))[10])
    assert_close(tenth, np.mean(tenths), 1e-3)


def coded(vectors, rng):
    """Parts of vectors, a fitted quantizer, and its codes of them."""
    quantizer = residual()
    parts = vectors.reshape(-1, 2, DIM // 2)
    return parts, quantizer, fit_levels(quantizer, parts, rng, lambda *told: None)


def test_the_measured_recall_is_that_of_a_search(vectors, rng):
    parts, quantizer, codes = coded(vectors, rng)
    queries = ranking.find_neighbours(vectors, rng).take(slice(40))
    decoded = to_numpy(add_codewords(read_levels(quantizer), codes)).reshape(vectors.shape)
    errors = np.square(vectors - decoded).sum(axis=1)
    shares = []
    for row in queries.rows:
        raw = np.square(vectors[row] - vectors).sum(axis=1)
        found = np.square(vectors[row] - decoded).sum(axis=1) + ERROR_SHARE * errors
        raw[row] = found[row] = np.inf
        shares.append(np.isin(np.argsort(found)[:10], np.argsort(raw)[:10]).mean())
    measured = ranking.measure_recall(read_levels(quantizer), codes, parts, queries)
    assert abs(measured - np.mean(shares)) < 0.01


@pytest.mark.parametrize("step_length, moves", [(0.007, True), (10.0, False)])
def test_codebooks_stay_unless_moved_ones_find_more(
    step_length, moves, vectors, short_ranking, rng, monkeypatch
):
    monkeypatch.setattr(ranking, "STEP_LENGTH", step_length)
    parts, quantizer, codes = coded(vectors, rng)
    before = read_levels(quantizer)
    ranked = ranking.rank_neighbours(quantizer, parts, codes, rng, lambda *told: None)
    assert_same(ranked, CodeChooser(quantizer).choose(parts))
    assert np.array_equal(before, read_levels(quantizer)) != moves


@pytest.mark.parametrize("similarity, moves", [("cosine", True), ("dot", False)])
def test_what_has_norms_is_ranked(similarity, moves, vectors, short_ranking):
    steps = []
    network = types.SimpleNamespace(quantizer=residual(similarity), rotation=None)
    fit_vectors(network, vectors, progress=lambda *told: steps.append(told))
    assert (("ranking", ranking.ROUNDS, ranking.ROUNDS) in steps) == moves


def test_few_vectors_move_nothing(vectors, rng):
    quantizer = residual()
    before = to_numpy(quantizer.codebooks)
    codes = rng.integers(0, 8, size=(len(vectors), 2, 2))
    parts = vectors.reshape(-1, 2, DIM // 2)
    assert_same(ranking.rank_neighbours(quantizer, parts, codes, rng, lambda *told: None), codes)
    assert_same(to_numpy(quantizer.codebooks), before)
