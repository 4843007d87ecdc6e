"""Laws of the evaluation: each figure equals its definition, worked out ranking by ranking."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import reference
from tests.training.tiny import fill_weights_with_nan, make_images, make_network, make_splits
from tfpqn.datasets import ImageArrays, ImageFolder, Splits
from tfpqn.training import EvaluateRetrieval, calibrate, compare_networks, evaluate, evaluation


def mean_of(figure: Any, scores: np.ndarray, relevance: np.ndarray, *cut: Any) -> float:
    """Mean over the queries; each figure is the mean over every order of tied items."""
    rows = zip(scores, relevance, strict=True)
    return float(np.mean([figure(*row, *cut) for row in rows]))


def pair(database: ImageArrays, query: ImageArrays) -> Splits:
    return Splits(train=database, database=database, query=query)


@pytest.fixture(scope="module")
def coarse() -> Any:
    """A network with four codes in all: nearly every item ties with another."""
    return make_network(num_subspaces=2, num_codewords=2)


def integer_labels() -> Splits:
    return pair(make_images(7, seed=1), make_images(5, seed=2))


def multi_hot_labels() -> Splits:
    rng = np.random.default_rng(0)
    database, query = make_images(7, seed=1), make_images(5, seed=2)
    return pair(
        ImageArrays(database.images, (rng.random((7, 4)) < 0.4).astype(np.int64)),
        ImageArrays(query.images, (rng.random((5, 4)) < 0.4).astype(np.int64)),
    )


def are_relevant(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    if query_labels.ndim == 1:
        return query_labels[:, None] == database_labels[None, :]
    return np.array([[(q & d).any() for d in database_labels] for q in query_labels])


@pytest.mark.parametrize(
    ("make", "queries_per_block"),
    [(integer_labels, 100), (integer_labels, 2), (multi_hot_labels, 1)],
)
def test_figures_are_the_means_over_every_order_of_tied_items(
    coarse: Any, monkeypatch: pytest.MonkeyPatch, make: Any, queries_per_block: int
) -> None:
    splits = make()
    monkeypatch.setattr(evaluation, "SCORES_PER_BLOCK", queries_per_block * 7)
    figures = evaluate(coarse, splits, cutoffs=(3,), recall_ks=(2,), batch_size=4)

    queries = np.array(coarse.embed(splits.query.images))
    items = np.array(coarse.embed(splits.database.images))
    codes = np.array(coarse.encode(splits.database.images))
    # Rounded, so that equal codes tie exactly.
    scores = (queries @ reference.decode(codes, coarse.quantizer.codebooks).T).round(5)
    assert len(np.unique(codes, axis=0)) < len(codes)

    relevance = are_relevant(splits.query.labels, splits.database.labels)
    assert relevance.any() and not relevance.all()
    for measured, ranked in ((figures, scores), (figures["raw_embeddings"], queries @ items.T)):
        mean, at_3 = (mean_of(reference.average_precision, ranked, relevance, r) for r in (None, 3))
        recall = mean_of(reference.recall_at_k, ranked, relevance, 2)
        assert measured["mAP"] == pytest.approx(mean, rel=1e-9)
        assert measured["mAP@R"] == {"3": pytest.approx(at_3, rel=1e-9)}
        assert measured["recall@k"] == {"2": pytest.approx(recall, rel=1e-9)}


def test_coded_queries_are_ranked_by_their_own_reconstructions() -> None:
    network = make_network()
    splits = pair(make_images(7, seed=4), make_images(5, seed=5))
    queries, items = (
        reference.decode(np.array(network.encode(part.images)), network.quantizer.codebooks)
        for part in (splits.query, splits.database)
    )
    # Rounded, so that equal codes tie exactly.
    scores = (queries @ items.T).round(5)
    relevance = are_relevant(splits.query.labels, splits.database.labels)
    mean = mean_of(reference.average_precision, scores, relevance)
    figures = evaluate(network, splits)
    assert figures["coded_queries"]["mAP"] == pytest.approx(mean, rel=1e-9)
    assert figures["coded_queries"]["mAP"] != pytest.approx(figures["mAP"], rel=1e-3)


def test_usage_is_the_share_of_codewords_that_an_item_uses() -> None:
    network, splits = make_network(), make_splits()
    codes = np.array(network.encode(splits.database.images))
    used = {(position, codeword) for code in codes for position, codeword in enumerate(code)}
    assert evaluate(network, splits)["codebook_usage"] == len(used) / (4 * 16)


def test_report_says_what_was_measured_and_json_can_hold_it(coarse: Any) -> None:
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


def test_cutoffs_beyond_the_database_mean_all_of_it(coarse: Any) -> None:
    figures = evaluate(coarse, make_splits(), cutoffs=(64, 1000), recall_ks=(1000,))
    assert figures["mAP@R"] == {"64": figures["mAP"], "1000": figures["mAP"]}
    assert figures["recall@k"] == {"1000": 1.0}


def relabelled(splits: Splits, query_labels: Any, database_labels: Any) -> Splits:
    return pair(
        ImageArrays(splits.database.images, np.array(database_labels)),
        ImageArrays(splits.query.images, np.array(query_labels)),
    )


def test_an_item_without_a_label_is_found_by_no_query_and_is_none(coarse: Any) -> None:
    splits = relabelled(integer_labels(), [0, -1, 2, -1, 1], [0, 1, -1, 2, -1, 1, 0])
    figures = evaluate(coarse, splits)
    assert figures["unlabelled_queries"] == 2
    own = relabelled(splits, [0, 1, 2, 3, 1], [0, 1, 50, 2, 51, 1, 0])
    own = Splits(own.train, own.database, own.query.subset(np.array([0, 2, 4])))
    expected = evaluate(coarse, own)
    for name in ("mAP", "mAP@R", "recall@k", "raw_embeddings", "soft_items", "coded_queries"):
        assert figures[name] == expected[name]


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
    coarse: Any, query_labels: Any, database_labels: Any, reason: str
) -> None:
    splits = relabelled(integer_labels(), query_labels, database_labels)
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


def write_folder(folder: Path, images: ImageArrays, broken: bool) -> ImageFolder:
    """Two labels; if `broken`, with a file among them, and one at the end, that is no image."""
    for position in range(len(images)):
        path = folder / f"{images.labels[position] % 2}" / f"{position:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    if broken:
        (folder / "0" / "03 corrupt.png").write_text("not an image")
        (folder / "1" / "99 truncated.png").write_bytes(images.encoded_image(0)[:40])
    return ImageFolder(folder, images.image_shape)


def test_images_that_cannot_be_read_are_left_out_on_both_sides(coarse: Any, tmp_path: Path) -> None:
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


def test_what_cannot_be_ranked_is_an_error(coarse: Any, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("not an image")
    nothing, images = ImageFolder(tmp_path, (8, 8, 1)), make_images(8)
    for splits in (pair(nothing, images), pair(images, nothing)):
        with pytest.raises(ValueError, match="each hold a readable image. Received: none"):
            evaluate(coarse, splits)
    with pytest.raises(ValueError, match="embeddings must be finite. Received: NaN"):
        evaluate(fill_weights_with_nan(make_network()), make_splits())
