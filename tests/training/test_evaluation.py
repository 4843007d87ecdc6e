"""Laws of the evaluation: each figure equals its definition, worked out ranking by ranking."""

import json

import numpy as np
import pytest

from tests import reference
from tests.core.test_graded_ranking import slow_ndcg, slow_shares
from tests.training.tiny import (
    NUM_FRAMES,
    fill_weights_with_nan,
    make_clip_splits,
    make_images,
    make_multi_hot_splits,
    make_network,
    make_network_with,
    make_splits,
    read_items,
)
from tfpqn.codebooks.kmeans import fit_codebooks
from tfpqn.datasets import ImageArrays, ImageFolder, Splits
from tfpqn.layers import ResidualProductQuantization, TemporalProductQuantization
from tfpqn.training import EvaluateRetrieval, calibrate, compare_networks, evaluate, evaluation


def mean_of(scores, splits, figure=reference.average_precision, *cut):
    """Mean over the queries; each figure is the mean over every order of tied items."""
    relevance = reference.relevant(splits.query.labels, splits.database.labels)
    assert relevance.any() and not relevance.all()
    rows = zip(scores, relevance, strict=True)
    return float(np.mean([figure(*row, *cut) for row in rows]))


def pair(database, query):
    return Splits(train=database, database=database, query=query)


@pytest.fixture(scope="module")
def coarse():
    """A network with four codes in all: nearly every item ties with another."""
    return make_network(num_subspaces=2, num_codewords=2)


@pytest.mark.parametrize(
    ("make", "queries_per_block"),
    [(make_splits, 100), (make_splits, 2), (make_multi_hot_splits, 1), (make_multi_hot_splits, 9)],
)
def test_figures_are_the_means_over_every_order_of_tied_items(
    coarse, monkeypatch, make, queries_per_block
):
    splits = make(7, 5)
    monkeypatch.setattr(evaluation, "SCORES_PER_BLOCK", queries_per_block * 7)
    figures = evaluate(coarse, splits, cutoffs=(3,), recall_ks=(2,), batch_size=4)

    queries, items = (
        np.array(coarse.embed(part.images), np.float64) for part in (splits.query, splits.database)
    )
    decoded_queries, decoded = (
        reference.decode(np.array(coarse.encode(part.images)), coarse.quantizer.codebooks)
        for part in (splits.query, splits.database)
    )
    assert len(np.unique(decoded, axis=0)) < len(decoded)
    # Rounded, so that equal codes tie exactly.
    scores = (queries @ decoded.T).round(5)
    soft = reference.reconstruct_soft(items, coarse.quantizer.codebooks, coarse.quantizer.alpha)
    for name, ranked in (
        ("coded_queries", (decoded_queries @ decoded.T).round(5)),
        ("soft_items", queries @ soft.T),
    ):
        assert figures[name]["mAP"] == pytest.approx(mean_of(ranked, splits), rel=1e-9)
    for measured, ranked in ((figures, scores), (figures["raw_embeddings"], queries @ items.T)):
        at_3 = mean_of(ranked, splits, reference.average_precision, 3)
        recall = mean_of(ranked, splits, reference.recall_at_k, 2)
        assert measured["mAP"] == pytest.approx(mean_of(ranked, splits), rel=1e-9)
        assert measured["mAP@R"] == {"3": pytest.approx(at_3, rel=1e-9)}
        assert measured["recall@k"] == {"2": pytest.approx(recall, rel=1e-9)}
        # Items of one label are relevant or not, and nothing in between.
        assert ("NDCG@k" in measured) is (make is make_multi_hot_splits)
        if make is make_multi_hot_splits:
            shares = slow_shares(splits.query.labels, splits.database.labels)
            gains = [slow_ndcg(*row, 2) for row in zip(ranked, shares, strict=True)]
            assert measured["NDCG@k"] == {"2": pytest.approx(np.mean(gains), rel=1e-9)}


def test_usage_is_the_share_of_codewords_that_an_item_uses():
    network, splits = make_network(), make_splits()
    codes = np.array(network.encode(splits.database.images))
    used = {(position, codeword) for code in codes for position, codeword in enumerate(code)}
    assert evaluate(network, splits)["codebook_usage"] == len(used) / (4 * 16)


def test_report_says_what_was_measured_and_json_can_hold_it(coarse):
    splits = make_splits()
    former = [np.array(variable) for variable in coarse.variables]
    figures = evaluate(coarse, splits, cutoffs=(10, 50), recall_ks=(1, 5))
    for variable, before in zip(coarse.variables, former, strict=True):
        np.testing.assert_array_equal(variable, before)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for part in (figures, figures["raw_embeddings"]):
        assert part["mAP@R"].keys() == {"10", "50"}
        assert part["recall@k"].keys() == {"1", "5"}
        assert 0 <= part["mAP"] <= 1
    assert figures["bits_per_code"] == 2
    assert figures["splits"] == splits.describe()
    assert "full ranking" in figures["ranking"]
    assert "expected" in figures["ties"]


def test_cutoffs_beyond_the_database_mean_all_of_it(coarse):
    figures = evaluate(coarse, make_splits(), cutoffs=(64, 1000), recall_ks=(1000,))
    assert figures["mAP@R"] == {"64": figures["mAP"], "1000": figures["mAP"]}
    assert figures["recall@k"] == {"1000": 1.0}


def relabelled(splits, query_labels, database_labels):
    return pair(
        ImageArrays(splits.database.images, np.array(database_labels)),
        ImageArrays(splits.query.images, np.array(query_labels)),
    )


def multi_hot(labels):
    """A row for each label; one without a one for -1."""
    return np.eye(4, dtype=int)[labels] * (np.array(labels) >= 0)[:, None]


@pytest.mark.parametrize("form", [np.array, multi_hot])
def test_an_item_without_a_label_is_found_by_no_query_and_is_none(coarse, form):
    labels = form([0, -1, 2, -1, 1]), form([0, 1, -1, 2, -1, 1, 0])
    splits = relabelled(make_splits(7, 5), *labels)
    figures = evaluate(coarse, splits)
    assert figures["unlabelled_queries"] == 2
    own = relabelled(splits, [0, 1, 2, 3, 1], [0, 1, 50, 2, 51, 1, 0])
    own = Splits(own.train, own.database, own.query.subset(np.array([0, 2, 4])))
    expected = evaluate(coarse, own)
    for name in ("mAP", "mAP@R", "recall@k", "soft_items", "coded_queries"):
        assert figures[name] == expected[name]
    assert figures["raw_embeddings"].items() >= expected["raw_embeddings"].items()


@pytest.mark.parametrize(
    ("query_labels", "database_labels", "reason"),
    [
        ([-1] * 5, [-1] * 7, "the items have no labels"),
        ([-1] * 5, [0, 1, 2, 0, 1, 2, 0], "the items have no labels"),
        ([[1, 0]] * 5, [[1, 0]] * 7, "all items have the same label"),
        ([[0, 0]] * 5, [[0, 0]] * 7, "the items have no labels"),
    ],
)
def test_labels_that_tell_nothing_give_no_figure_but_the_reason(
    coarse, query_labels, database_labels, reason
):
    splits = relabelled(make_splits(7, 5), query_labels, database_labels)
    figures = evaluate(coarse, splits)
    assert figures["not_measured"] == reason
    assert (
        figures["mAP"] is figures["raw_embeddings"]["mAP"] is figures["soft_items"]["mAP"] is None
    )
    assert figures["mAP@R"] == figures["recall@k"] == {}
    assert 0 < figures["codebook_usage"] <= 1
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for refuse in (
        lambda: calibrate(coarse, splits, precision=0.5),
        lambda: compare_networks(coarse, coarse, splits),
    ):
        with pytest.raises(ValueError, match=f"two or more labels are needed. Received: {reason}"):
            refuse()
    callback, logs = EvaluateRetrieval(splits), {"loss": 1.0}
    callback.set_model(coarse)
    callback.on_epoch_end(0, logs)
    assert logs == {"loss": 1.0}


def write_folder(folder, images, broken):
    """Two labels; if `broken`, with a file among them, and one at the end, that is no image."""
    for position in range(len(images)):
        path = folder / f"{images.labels[position] % 2}" / f"{position:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    if broken:
        (folder / "0" / "03 corrupt.png").write_text("not an image")
        (folder / "1" / "99 truncated.png").write_bytes(images.encoded_image(0)[:40])
    return ImageFolder(folder, images.image_shape)


def test_images_that_cannot_be_read_are_left_out_on_both_sides(coarse, tmp_path):
    database, query = make_images(20, seed=1), make_images(9, seed=2)
    whole, broken = (
        pair(
            write_folder(tmp_path / name / "database", database, name == "broken"),
            write_folder(tmp_path / name / "query", query, name == "broken"),
        )
        for name in ("whole", "broken")
    )
    expected, figures = (evaluate(coarse, splits, batch_size=4) for splits in (whole, broken))
    for part in (broken.database, broken.query):
        assert set(part.skipped) == {"0/03 corrupt.png", "1/99 truncated.png"}
    for report in (expected, figures):
        report.pop("splits")
    assert figures == expected


def test_what_cannot_be_ranked_is_an_error(coarse, tmp_path):
    (tmp_path / "1.png").write_text("not an image")
    nothing, images = ImageFolder(tmp_path, (8, 8, 1)), make_images(8)
    for splits in (pair(nothing, images), pair(images, nothing)):
        with pytest.raises(ValueError, match="images that can be read. Received: none of 1"):
            evaluate(coarse, splits)
    wide = ImageArrays(np.zeros((8, 9, 8, 1), np.uint8), images.labels)
    for rank in (evaluate, lambda *given: calibrate(*given, precision=0.5)):
        with pytest.raises(ValueError, match="must have the network's shape"):
            rank(coarse, pair(wide, wide))
    with pytest.raises(ValueError, match="embeddings must be finite. Received: NaN"):
        evaluate(fill_weights_with_nan(make_network()), make_splits())


# Levels and clips


def score_codes(queries, codes, levels):
    """Inner products with what the first levels decode to; rounded, so that equal codes tie."""
    length = len(levels) * len(levels[0])
    return (queries @ reference.residual_decode(codes[:, :length], levels).T).round(6)


def spread_codewords(network, items):
    """Codewords between pairs of items, so that neither all items share a code nor none."""

    def cluster(vectors, number):
        # Each of another length: codes that decode alike would tie up to rounding only.
        return (vectors[:number] + vectors[-number:]) / np.arange(2, number + 2)[:, None]

    fit_codebooks(network.quantizer, np.array(network.embed(items)), cluster)


@pytest.mark.parametrize(
    ("make_quantizer", "make", "embedding_dim"),
    [
        (lambda: ResidualProductQuantization(2, 2, 4), make_splits, 16),
        (lambda: ResidualProductQuantization(3, 2, 4), make_splits, 16),
        (lambda: TemporalProductQuantization(2, 1, 4, 2), make_clip_splits, 8),
    ],
    ids=["two levels", "three levels", "clips"],
)
def test_prefixes_are_measured_as_codes_of_the_first_levels(make_quantizer, make, embedding_dim):
    network, splits = make_network_with(make_quantizer(), embedding_dim), make(7, 6)
    spread_codewords(network, read_items(splits.database))
    figures = evaluate(network, splits, cutoffs=(), recall_ks=(), batch_size=3 * NUM_FRAMES)
    queries, items = (
        np.asarray(network.embed(read_items(part)), np.float64)
        for part in (splits.query, splits.database)
    )
    codes = np.array(network.encode(read_items(splits.database)))
    levels = reference.unit_first(network.quantizer.codebooks)
    numbers = range(1, len(levels) + 1)
    expected = [mean_of(score_codes(queries, codes, levels[:n]), splits) for n in numbers]
    assert [prefix["num_levels"] for prefix in figures["prefixes"]] == list(numbers)
    assert [prefix["bits_per_code"] for prefix in figures["prefixes"]] == [4 * n for n in numbers]
    assert [prefix["mAP"] for prefix in figures["prefixes"]] == pytest.approx(expected, rel=1e-9)
    assert figures["prefixes"][-1]["mAP"] == figures["mAP"]
    assert figures["bits_per_code"] == 4 * len(levels)
    # Training sees the first level alone.
    soft = reference.reconstruct_soft(items, levels[0], network.quantizer.alpha)
    for name, ranked in (("raw_embeddings", queries @ items.T), ("soft_items", queries @ soft.T)):
        assert figures[name]["mAP"] == pytest.approx(mean_of(ranked, splits), rel=1e-9)
