"""Laws of the calibration: the threshold is the smallest that holds what is asked of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny import (
    fill_weights_with_nan,
    make_clip_splits,
    make_clips,
    make_images,
    make_network,
    make_network_with,
    make_splits,
)
from tfpqn.datasets import ImageArrays, Splits
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.training import Run, RunConfig, calibrate, calibrate_run
from tfpqn.training.calibration import Pairs, find_threshold

QUANTIZERS = {
    "pqn": lambda: ProductQuantization(4, 16),
    "rpqn": lambda: ResidualProductQuantization(3, 2, 16),
    "tpqn": lambda: TemporalProductQuantization(2, 2, 16),
    "pyramid": lambda: TemporalProductQuantization((1, 2), 2, 16, levels=2),
    "shared": lambda: TemporalProductQuantization((1, 2), 4, 16, share_codebooks=True),
}
CLIP_QUANTIZERS = ("tpqn", "pyramid", "shared")


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


def share_at(pairs: Pairs, threshold: float) -> float:
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
def test_threshold_is_the_smallest_score_that_holds_the_precision(
    pairs: Pairs, precision: float
) -> None:
    shares = {float(score): share_at(pairs, score) for score in pairs.scores}
    valid = [score for score, share in shares.items() if share >= precision]
    if valid:
        assert find_threshold(pairs, precision) == min(valid)
        return
    with pytest.raises(ValueError, match="must be at most") as caught:
        find_threshold(pairs, precision)
    assert f"at most {max(shares.values()):.6g}, " in str(caught.value)


@given(pairs=many_pairs, seed=st.integers(0, 100))
def test_order_of_the_pairs_does_not_matter(pairs: Pairs, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pairs.scores))
    turned = Pairs(pairs.scores[order], pairs.relevant[order])
    best = max(share_at(pairs, score) for score in pairs.scores)
    if best > 0:
        assert find_threshold(turned, best) == find_threshold(pairs, best)


def test_tied_pairs_are_taken_together() -> None:
    pairs = Pairs(np.array([3, 2, 2, 2, 1], np.float32), np.array([True, True, True, False, True]))
    assert find_threshold(pairs, 1.0) == 3
    assert find_threshold(pairs, 0.75) == 1
    assert find_threshold(pairs, 0.8) == 1
    assert find_threshold(Pairs(pairs.scores[1:4], pairs.relevant[1:4]), 2 / 3) == 2
    with pytest.raises(ValueError, match="at most 0.666667.*3 pairs.*Received: 0.7"):
        find_threshold(Pairs(pairs.scores[1:4], pairs.relevant[1:4]), 0.7)


def slow_pairs(network: Any, splits: Splits, rows: np.ndarray, top_k: int) -> Pairs:
    """The nearest items of each query, found one by one."""
    codes = np.array(network.encode(splits.database.images))
    tables = np.array(network.quantizer.lookup_tables(network.embed(splits.query.images)))
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
            labels = splits.query.labels[row], splits.database.labels[item]
            alike = labels[0] == labels[1] if np.ndim(labels[0]) == 0 else (labels[0] & labels[1])
            relevant.append(np.any(alike))
    return Pairs(np.array(scores, np.float32), np.array(relevant))


def multi_hot_splits() -> Splits:
    rng = np.random.default_rng(0)
    database, query = make_images(20, seed=1), make_images(9, seed=2)
    parts = [
        ImageArrays(part.images, (rng.random((len(part), 4)) < 0.5).astype(np.int64))
        for part in (database, query)
    ]
    return Splits(train=parts[0], database=parts[0], query=parts[1])


@pytest.mark.parametrize("make", [make_splits, multi_hot_splits])
@pytest.mark.parametrize("top_k", [1, 5, 1000])
@pytest.mark.parametrize("queries_per_block", [1, 1000])
def test_figures_are_those_of_a_slow_loop(
    network: Any, monkeypatch: pytest.MonkeyPatch, make: Any, top_k: int, queries_per_block: int
) -> None:
    splits = make()
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
    assert set(result) == {
        "precision",
        "score_threshold",
        "distance_threshold",
        "top_k",
        "calibration",
        "held_out",
        "codebook_fingerprint",
        "num_levels",
    }


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_query_has_the_distance_0_to_itself_unquantized(kind: str) -> None:
    """One subvector for each position of a level: the norm that the definition divides by."""
    quantizer = QUANTIZERS[kind]()
    network = make_network_with(quantizer, embedding_dim=16)
    items = make_clips(8) if kind in CLIP_QUANTIZERS else make_images(8)
    images = next(iter(items.batches(8))).images
    embeddings = np.array(network.embed(images))
    num_subvectors = quantizer.code_length // quantizer.num_levels
    np.testing.assert_allclose((embeddings * embeddings).sum(axis=1), num_subvectors, rtol=1e-5)
    # A code that stands for the embedding itself, without error, has that score.
    subvectors = embeddings.reshape(8, num_subvectors, -1)
    cosines = np.einsum("imd,jmd->ijm", subvectors, subvectors)
    distances = 1 - (embeddings @ embeddings.T) / num_subvectors
    np.testing.assert_allclose(distances, (1 - cosines).mean(axis=-1), atol=1e-5)
    assert distances.min() > -1e-5
    assert distances.max() < 2 + 1e-5


@pytest.mark.parametrize("kind", ["rpqn", "pyramid"])
def test_distance_is_taken_over_the_subvectors_of_one_level(kind: str) -> None:
    network = make_network_with(QUANTIZERS[kind]())
    splits = make_clip_splits() if kind in CLIP_QUANTIZERS else make_splits()
    result = calibrate(network, splits, precision=0.05, top_k=4)
    num_subvectors = {"rpqn": 2, "pyramid": 6}[kind]
    assert result["num_levels"] == {"rpqn": 3, "pyramid": 2}[kind]
    expected = 1 - result["score_threshold"] / num_subvectors
    assert result["distance_threshold"] == pytest.approx(expected)
    assert result["codebook_fingerprint"] == network.quantizer.codebook_fingerprint()


def test_search_finds_the_matches_that_the_calibration_promised(network: Any) -> None:
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


def test_halves_follow_from_the_seed(network: Any) -> None:
    splits = make_splits()
    first, again, other = (calibrate(network, splits, precision=0.3, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first["calibration"] != other["calibration"]
    assert first["calibration"]["pairs"] == first["held_out"]["pairs"] == 60


def test_precision_that_cannot_be_had_is_refused_with_the_best_one(network: Any) -> None:
    splits = make_splits()
    strangers = ImageArrays(splits.query.images, np.full(12, 77))
    alone = Splits(train=splits.train, database=splits.database, query=strangers)
    with pytest.raises(ValueError, match="must be at most 0, the best.*60 pairs.*Received: 0.9"):
        calibrate(network, alone, precision=0.9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 0}, "above 0 and at most 1. Received: 0"),
        ({"precision": 1.01}, "above 0 and at most 1. Received: 1.01"),
        ({"precision": float("nan")}, "above 0 and at most 1. Received: nan"),
        ({"precision": 0.5, "top_k": 0}, "top_k must be at least 1. Received: 0"),
    ],
)
def test_argument_out_of_range_is_refused(
    network: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(network, make_splits(), **settings)


def test_data_that_cannot_be_calibrated_on_is_refused(network: Any) -> None:
    splits = make_splits()
    single = Splits(splits.train, splits.database, splits.query.subset(np.array([0])))
    with pytest.raises(ValueError, match="at least two queries.*Received: 1"):
        calibrate(network, single, precision=0.5)
    with pytest.raises(ValueError, match="must be finite"):
        calibrate(fill_weights_with_nan(make_network()), splits, precision=0.5)


def test_calibration_is_kept_in_the_run(network: Any, tmp_path: Path) -> None:
    run = Run.start(tmp_path, RunConfig(bits=16, embedding_dim=16))
    assert run.read_calibration() is None
    splits = make_splits()
    result = calibrate_run(run, network, splits, precision=0.3, top_k=4, seed=2)
    assert run.read_calibration() == result
    figures = calibrate(network, splits, precision=0.3, top_k=4, seed=2)
    assert result == {"protocol": "digits", **figures}


def test_calibration_of_a_changed_file_or_of_another_network_is_refused_by_name(
    network: Any, tmp_path: Path
) -> None:
    run = Run.start(tmp_path, RunConfig(bits=16, embedding_dim=16))
    network.save(tmp_path / "network.keras")
    result = calibrate_run(run, network, make_splits(), precision=0.3, top_k=4)
    file = tmp_path / "calibration.json"
    whole = file.read_bytes()
    # Each digit of each number and hash, and letters of names.
    for place in [i for i, byte in enumerate(whole) if chr(byte).isalnum()]:
        other = b"8" if whole[place : place + 1] == b"7" else b"7"
        file.write_bytes(whole[:place] + other + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"calibration\.json' must be the calibration"):
            run.read_calibration()
    file.write_bytes(whole)
    assert run.read_calibration() == result
    make_network(num_codewords=8).save(tmp_path / "network.keras")
    with pytest.raises(ValueError, match="of another network; calibrate again"):
        run.read_calibration()


def test_calibration_from_before_the_seal_is_read_if_its_types_are_right(
    network: Any, tmp_path: Path
) -> None:
    run = Run.start(tmp_path, RunConfig(bits=16, embedding_dim=16))
    former = {"protocol": "digits", **calibrate(network, make_splits(), precision=0.3)}
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(former))
    assert run.read_calibration() == former
    for wrong in ({"score_threshold": "2"}, {"num_levels": 1.0}, {"top_k": True}, {"more": 1}):
        file.write_text(json.dumps({**former, **wrong}))
        with pytest.raises(ValueError, match=r"calibration\.json' must be the calibration"):
            run.read_calibration()
