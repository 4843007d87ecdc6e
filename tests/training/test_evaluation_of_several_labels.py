"""Laws of the figures of items with several labels, against their definitions."""

from typing import Any

import numpy as np
import pytest

from tests import reference
from tests.core.test_graded_ranking import slow_ndcg, slow_shares
from tests.training.tiny import make_images, make_network, make_splits
from tfpqn.datasets import ImageArrays, Splits
from tfpqn.training import evaluate, evaluation


@pytest.mark.parametrize("queries_per_block", [100, 2])
def test_ndcg_weighs_items_by_their_share_of_the_querys_labels(
    monkeypatch: pytest.MonkeyPatch, queries_per_block: int
) -> None:
    monkeypatch.setattr(evaluation, "SCORES_PER_BLOCK", queries_per_block * 7)
    # Four codes in all: nearly every item ties with another.
    network = make_network(num_subspaces=2, num_codewords=2)
    splits = several_labels()
    figures = evaluate(network, splits, cutoffs=(), recall_ks=(1, 3))

    labelled = splits.query.labels.any(axis=1)
    queries = np.array(network.embed(splits.query.images))[labelled]
    codes = np.array(network.encode(splits.database.images))
    decoded = reference.decode(codes, network.quantizer.codebooks)
    items = np.array(network.embed(splits.database.images))
    shares = slow_shares(splits.query.labels[labelled], splits.database.labels)
    # Rounded, so that equal codes tie exactly.
    for found, scores in (
        (figures, (queries @ decoded.T).round(5)),
        (figures["raw_embeddings"], queries @ items.T),
    ):
        expected = {
            str(k): np.mean([slow_ndcg(*row, k) for row in zip(scores, shares, strict=True)])
            for k in (1, 3)
        }
        assert found["NDCG@k"] == pytest.approx(expected, rel=1e-9)
    assert figures["unlabelled_queries"] == 1


def several_labels() -> Splits:
    rng = np.random.default_rng(0)
    database, query = make_images(7, seed=1), make_images(5, seed=2)
    labels = (rng.random((12, 4)) < 0.5).astype(np.uint8)
    labels[:2] = [[0, 0, 0, 0], [1, 1, 1, 0]]
    items = ImageArrays(database.images, labels[5:])
    return Splits(items, items, ImageArrays(query.images, labels[:5]))


def test_items_of_one_label_have_no_ndcg() -> None:
    figures: dict[str, Any] = evaluate(make_network(), make_splits())
    assert "NDCG@k" not in figures
    assert "NDCG@k" not in figures["raw_embeddings"]
