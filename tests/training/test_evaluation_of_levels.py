"""Laws of the figures of levels and clips: each is a loop over codewords and rankings."""

from typing import Any

import numpy as np
import pytest

from tests import reference
from tests.training.tiny import (
    IMAGE_SHAPE,
    NUM_FRAMES,
    make_clips,
    make_images,
    make_network_with,
)
from tfpqn.codebooks.kmeans import fit_codebooks
from tfpqn.datasets import Splits
from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.training import evaluate

# A loop over all orders of the items takes 7! turns.
NUM_ITEMS, NUM_QUERIES = 7, 6


def mean_average_precision(scores: np.ndarray, splits: Splits) -> float:
    relevance = splits.query.labels[:, None] == splits.database.labels[None, :]
    assert relevance.any() and not relevance.all()
    return float(np.mean([*map(reference.average_precision, scores, relevance)]))


def score_codes(queries: np.ndarray, codes: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
    """Inner products with what the first levels decode to; rounded, so that equal codes tie."""
    length = len(levels) * len(levels[0])
    return (queries @ reference.residual_decode(codes[:, :length], levels).T).round(6)


def codebooks_of(network: Any) -> list[np.ndarray]:
    """Codewords as used, one array a level: those of the first level are directions."""
    first, *others = np.asarray(network.quantizer.codebooks, np.float64)
    return [reference.unit(first), *others]


def spread_codewords(network: Any, items: np.ndarray) -> Any:
    """Codewords between pairs of items, so that neither all items share a code nor none."""

    def cluster(vectors: np.ndarray, number: int) -> np.ndarray:
        # Each of another length: codes that decode alike would tie up to rounding only.
        return (vectors[:number] + vectors[-number:]) / np.arange(2, number + 2)[:, None]

    fit_codebooks(network.quantizer, np.array(network.embed(items)), cluster)
    return network


@pytest.fixture(scope="module")
def splits() -> Splits:
    database = make_images(NUM_ITEMS, seed=1)
    return Splits(train=database, database=database, query=make_images(NUM_QUERIES, seed=2))


@pytest.mark.parametrize("num_levels", [2, 3])
def test_prefixes_are_measured_as_codes_of_the_first_levels(
    splits: Splits, num_levels: int
) -> None:
    network = make_network_with(ResidualProductQuantization(num_levels, 2, 4))
    spread_codewords(network, splits.database.images)
    figures = evaluate(network, splits, cutoffs=(), recall_ks=())
    queries = np.asarray(network.embed(splits.query.images), np.float64)
    codes = np.array(network.encode(splits.database.images))
    expected = [
        mean_average_precision(score_codes(queries, codes, codebooks_of(network)[:number]), splits)
        for number in range(1, num_levels + 1)
    ]
    assert [prefix["num_levels"] for prefix in figures["prefixes"]] == [*range(1, num_levels + 1)]
    assert [prefix["bits_per_code"] for prefix in figures["prefixes"]] == [
        4 * level for level in range(1, num_levels + 1)
    ]
    assert [prefix["mAP"] for prefix in figures["prefixes"]] == pytest.approx(expected, rel=1e-9)
    assert figures["prefixes"][-1]["mAP"] == figures["mAP"]
    assert figures["bits_per_code"] == 4 * num_levels


@pytest.mark.parametrize(
    "make",
    [lambda: ProductQuantization(2, 8, 3.0), lambda: ResidualProductQuantization(2, 2, 8, 3.0)],
)
def test_soft_items_are_ranked_as_training_reconstructs_them(splits: Splits, make: Any) -> None:
    network = make_network_with(make())
    queries, items = (
        np.asarray(network.embed(part.images), np.float64)
        for part in (splits.query, splits.database)
    )
    # Training sees the first level alone.
    first_level = np.asarray(network.quantizer.codebooks).reshape(-1, 2, 8, 8)[0]
    soft = reference.reconstruct_soft(items, first_level, 3.0)
    figures = evaluate(network, splits)["soft_items"]
    expected = mean_average_precision(queries @ soft.T, splits)
    assert figures == {"mAP": pytest.approx(expected, rel=1e-9)}


# Clips


@pytest.fixture(scope="module")
def clip_network() -> Any:
    network = make_network_with(TemporalProductQuantization(2, 1, 4, 2), embedding_dim=8)
    return spread_codewords(network, read_clips(clip_splits().database))


def clip_splits(empty: tuple[int, ...] = ()) -> Splits:
    database = make_clips(NUM_ITEMS, seed=1, empty=empty)
    return Splits(train=database, database=database, query=make_clips(NUM_QUERIES, seed=2))


def read_clips(clips: Any) -> np.ndarray:
    return np.stack([clips.read_item(position) for position in range(len(clips))])


def test_clips_are_measured_as_a_loop_over_their_codes_measures(clip_network: Any) -> None:
    splits = clip_splits()
    assert splits.query.item_shape == (NUM_FRAMES, *IMAGE_SHAPE)
    figures = evaluate(clip_network, splits, batch_size=3 * NUM_FRAMES)
    queries, items = (
        np.asarray(clip_network.embed(read_clips(part)), np.float64)
        for part in (splits.query, splits.database)
    )
    codes = np.array(clip_network.encode(read_clips(splits.database)))
    levels = codebooks_of(clip_network)
    expected = [
        mean_average_precision(score_codes(queries, codes, levels[:number]), splits)
        for number in (1, 2)
    ]
    assert [prefix["mAP"] for prefix in figures["prefixes"]] == pytest.approx(expected, rel=1e-9)
    assert figures["mAP"] == pytest.approx(expected[-1], rel=1e-9)
    raw = mean_average_precision(queries @ items.T, splits)
    assert figures["raw_embeddings"]["mAP"] == pytest.approx(raw, rel=1e-9)
    assert figures["bits_per_code"] == 8
    assert figures["splits"]["database"]["num_images"] == NUM_ITEMS


def test_clips_without_frames_are_left_out(clip_network: Any) -> None:
    whole, broken = clip_splits(), clip_splits(empty=(2, 6))
    kept = np.setdiff1d(np.arange(NUM_ITEMS), (2, 6))
    rest = whole.database.subset(kept)
    expected = evaluate(clip_network, Splits(rest, rest, whole.query))
    figures = evaluate(clip_network, broken)
    assert set(broken.database.skipped) == {2, 6}
    for report in (expected, figures):
        report.pop("splits")
    assert figures == expected


def test_frames_of_another_size_are_refused(clip_network: Any) -> None:
    clips = make_clips(NUM_ITEMS)
    clips.frames = clips.frames[:, :-1]
    clips.image_shape = clips.frames.shape[1:]
    with pytest.raises(ValueError, match=r"the network's shape \(8, 8, 1\).*\(7, 8, 1\)"):
        evaluate(clip_network, Splits(clips, clips, clips))
