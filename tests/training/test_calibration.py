"""Laws of the calibration: the threshold is the smallest that holds what is asked of it."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.training.tiny import (
    make_clip_splits,
    make_multi_hot_splits,
    make_network,
    make_network_with,
    make_splits,
)
from tfpqn.datasets import ImageArrays
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.training import Run, RunConfig, calibrate, calibrate_run
from tfpqn.training.calibration import Pairs, find_threshold

# Of several subvectors and levels: quantizer, and data.
LEVELS = {
    "rpqn": (lambda: ResidualProductQuantization(3, 2, 16), make_splits, (2, 3)),
    "tpqn": (
        lambda: TemporalProductQuantization((1, 2), 2, 16, levels=2),
        make_clip_splits,
        (6, 2),
    ),
}


@pytest.fixture(scope="module")
def network():
    return make_network()


def share_at(pairs, threshold):
    """Precision of all pairs with a score of the threshold or more, pair by pair."""
    hits = [bool(r) for s, r in zip(pairs.scores, pairs.relevant, strict=True) if s >= threshold]
    return sum(hits) / len(hits)


many_pairs = st.lists(
    st.tuples(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 0.5, 1.0, 3.5]), st.booleans()),
    min_size=1,
    max_size=30,
).map(
    lambda rows: Pairs(
        np.array([score for score, _ in rows], np.float32), np.array([r for _, r in rows])
    )
)


@given(pairs=many_pairs, precision=st.sampled_from([0.01, 0.25, 0.5, 2 / 3, 0.75, 0.95, 1.0]))
def test_threshold_is_the_smallest_score_that_holds_the_precision(pairs, precision):
    shares = {float(score): share_at(pairs, score) for score in pairs.scores}
    valid = [score for score, share in shares.items() if share >= precision]
    if valid:
        assert find_threshold(pairs, precision) == min(valid)
        return
    with pytest.raises(ValueError, match="must be at most") as caught:
        find_threshold(pairs, precision)
    assert f"at most {max(shares.values()):.6g}, " in str(caught.value)


def slow_pairs(network, splits, rows, top_k):
    """The nearest items of each query, found one by one."""
    codes = np.array(network.encode(splits.database.images))
    tables = np.array(network.quantizer.lookup_tables(network.embed(splits.query.images)))
    relevance = reference.relevant(splits.query.labels, splits.database.labels)
    scores, relevant = [], []
    for row in rows:
        found = []
        for item, code in enumerate(codes):
            score = np.float32(0)
            for position, codeword in enumerate(code):
                score = np.float32(score + tables[row, position, codeword])
            found.append((-score, item))
        for score, item in sorted(found)[:top_k]:
            scores.append(-score)
            relevant.append(relevance[row, item])
    return Pairs(np.array(scores, np.float32), np.array(relevant))


@pytest.mark.parametrize(
    ("make", "top_k", "queries_per_block"),
    [(make_splits, 1, 1000), (make_splits, 1000, 1), (make_multi_hot_splits, 5, 1)],
)
def test_figures_are_those_of_a_slow_loop(network, monkeypatch, make, top_k, queries_per_block):
    splits = make(20, 9)
    monkeypatch.setattr(
        "tfpqn.training.evaluation.SCORES_PER_BLOCK", queries_per_block * len(splits.database)
    )
    num_queries = len(splits.query)
    order = np.random.default_rng(5).permutation(num_queries)
    half = -(-num_queries // 2)
    expected = slow_pairs(network, splits, order[:half], top_k)
    others = slow_pairs(network, splits, order[half:], top_k)
    precision = 0.9 * max(share_at(expected, score) for score in expected.scores)
    result = calibrate(network, splits, precision=precision, top_k=top_k, seed=5)
    threshold = min(s for s in expected.scores if share_at(expected, s) >= precision)
    assert result["score_threshold"] == pytest.approx(threshold, abs=1e-6)
    for name, pairs in (("calibration", expected), ("held_out", others)):
        matches = pairs.scores >= threshold - 1e-6
        found = (matches & pairs.relevant).sum()
        assert result[name]["pairs"] == len(pairs.scores)
        assert result[name]["precision"] == (found / matches.sum() if matches.any() else None)
        assert result[name]["recall"] == (
            found / pairs.relevant.sum() if pairs.relevant.any() else None
        )
    assert result["calibration"]["precision"] >= precision
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("kind", LEVELS)
def test_distance_is_taken_over_the_subvectors_of_one_level(kind):
    make_quantizer, make, (num_subvectors, num_levels) = LEVELS[kind]
    network, splits = make_network_with(make_quantizer()), make()
    # A query without error has the distance 0 to itself: that norm is what is divided by.
    embeddings = np.array(network.embed(next(iter(splits.query.batches(4))).images))
    np.testing.assert_allclose((embeddings**2).sum(axis=1), num_subvectors, rtol=1e-5)
    result = calibrate(network, splits, precision=0.05, top_k=4)
    assert result["num_levels"] == num_levels
    expected = 1 - result["score_threshold"] / num_subvectors
    assert result["distance_threshold"] == pytest.approx(expected)
    assert result["codebook_fingerprint"] == network.quantizer.codebook_fingerprint()


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_a_score_of_whole_vectors_is_a_distance_where_it_is_a_cosine(similarity):
    network = make_network_with(ProductQuantization(4, 16, similarity=similarity))
    result = calibrate(network, make_splits(), precision=0.05, top_k=4)
    distance = 1 - result["score_threshold"] if similarity == "cosine" else None
    assert result["distance_threshold"] == distance


def test_search_finds_the_matches_that_the_calibration_promised(network):
    splits = make_splits()
    result = calibrate(network, splits, precision=0.5, top_k=3)
    codes = np.array(network.encode(splits.database.images))
    index = CodeIndex(network_layout(network), codes, splits.database.ids)
    searcher = Searcher(network, index, top_k=3)
    rows = np.random.default_rng(0).permutation(12)[:6]
    ids, scores = searcher.search_by_embedding(np.array(network.embed(splits.query.images[rows])))
    # Another graph may round the last bit of a score otherwise.
    matches = scores >= result["score_threshold"] - 1e-6
    relevant = splits.database.labels[ids] == splits.query.labels[rows][:, None]
    assert (matches & relevant).sum() / matches.sum() == result["calibration"]["precision"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 0}, "above 0 and at most 1. Received: 0"),
        ({"precision": float("nan")}, "above 0 and at most 1. Received: nan"),
        ({"precision": 0.5, "top_k": 0}, "top_k must be at least 1. Received: 0"),
    ],
)
def test_argument_out_of_range_is_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        calibrate(network, make_splits(), **settings)


def test_data_that_cannot_be_calibrated_on_is_refused(network):
    splits = make_splits()
    single = dataclasses.replace(splits, query=splits.query.subset(np.array([0])))
    strangers = ImageArrays(splits.query.images, np.full(12, 77))
    for data, message in (
        (single, "at least two queries.*Received: 1"),
        (dataclasses.replace(splits, query=strangers), "at most 0, the best.*Received: 0.9"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(network, data, precision=0.9)


def test_calibration_of_a_changed_file_or_of_another_network_is_refused_by_name(network, tmp_path):
    run = Run.start(tmp_path, RunConfig.of(bits=16, num_subspaces=4, embedding_dim=16))
    network.save(tmp_path / "network.keras")
    assert run.read_calibration() is None
    result = calibrate_run(run, network, make_splits(), precision=0.3, top_k=4)
    figures = calibrate(network, make_splits(), precision=0.3, top_k=4)
    assert result == {"protocol": "digits", **figures} == run.read_calibration()
    file = tmp_path / "calibration.json"
    whole = file.read_text()
    content = json.loads(whole)
    for name in content:
        rest = {key: value for key, value in content.items() if key != name}
        for changed in (rest, {**content, name: "other"}):
            file.write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=r"calibration\.json' must be .*calibrate again"):
                run.read_calibration()
    file.write_text(whole)
    assert run.read_calibration() == result
    make_network(num_codewords=8).save(tmp_path / "network.keras")
    with pytest.raises(ValueError, match="of another network; calibrate again"):
        run.read_calibration()
