"""Laws of the comparison: it tells what old codes are worth to a new network."""

import json
import re

import numpy as np
import pytest

from tests.training.tiny import make_images, make_network, make_network_with, make_splits
from tfpqn.datasets import ImageArrays, Splits
from tfpqn.layers import ProductQuantization
from tfpqn.metrics import average_precision
from tfpqn.training import compare_networks, compatibility, evaluate


@pytest.fixture(scope="module")
def old():
    return make_network()


@pytest.fixture(scope="module")
def new():
    """Another embedding with the same codebooks: to it, the old codes are of other things."""
    network = make_network()
    rng = np.random.default_rng(1)
    kernel = network.embedding.weights[0]
    kernel.assign(np.array(kernel) + rng.normal(0, 0.2, kernel.shape))
    return network


def slow_mean(asking, coding, splits):
    """mAP of one network's queries on another's codes, by inner products with decoded items."""
    queries = np.array(asking.embed(splits.query.images))
    codes = np.array(coding.encode(splits.database.images))
    # Rounded, so that equal codes tie exactly.
    scores = (queries @ np.array(asking.quantizer.decode(codes)).T).round(5)
    relevance = splits.query.labels[:, None] == splits.database.labels[None]
    return float(average_precision(scores, relevance).mean())


def test_figures_are_those_of_each_network_on_each_code(old, new):
    splits = make_splits()
    report = compare_networks(old, new, splits, batch_size=5)
    expected = {
        "old_queries_old_codes": slow_mean(old, old, splits),
        "new_queries_old_codes": slow_mean(new, old, splits),
        "new_queries_new_codes": slow_mean(new, new, splits),
    }
    assert report["mAP"] == {
        name: pytest.approx(value, rel=1e-6) for name, value in expected.items()
    }
    assert len(set(expected.values())) == 3
    means = report["mAP"]
    assert report["loss"] == means["new_queries_new_codes"] - means["new_queries_old_codes"]
    assert means["new_queries_new_codes"] == evaluate(new, splits)["mAP"]
    assert json.loads(json.dumps(report)) == report
    assert report["splits"] == splits.describe()


def test_network_is_compatible_with_itself(old):
    report = compare_networks(old, old, make_splits())
    assert len(set(report["mAP"].values())) == 1
    assert (report["loss"], report["same_codebooks"], report["reencoding_due"]) == (0, True, False)
    assert report["advice"].startswith("Re-encoding is not due")


def test_other_codebooks_make_old_codes_meaningless_whatever_the_figure(old):
    other = make_network()
    codebooks = other.quantizer.codebooks
    codebooks.assign(np.array(codebooks)[:, ::-1])
    report = compare_networks(old, other, make_splits())
    assert not report["same_codebooks"]
    assert report["reencoding_due"]
    assert "other codebooks, to which the old codes mean nothing" in report["advice"]
    assert report["mAP"]["new_queries_old_codes"] == pytest.approx(
        slow_mean(other, old, make_splits()), rel=1e-6
    )
    assert report["fingerprints"]["old"] != report["fingerprints"]["new"]


def test_codes_of_another_shape_have_no_figure(old):
    other = make_network_with(ProductQuantization(2, 16))
    report = compare_networks(old, other, make_splits())
    assert report["mAP"]["new_queries_old_codes"] is report["loss"] is None
    assert not report["same_codebooks"] and report["reencoding_due"]


@pytest.mark.parametrize(
    ("means", "due", "sentence"),
    [
        ((0.7, 0.8, 0.8), False, r"^Re-encoding is not due: .* \+0.0000 mAP"),
        ((0.7, 0.8, 0.805), False, r"^Re-encoding is not due: .* \+0.0050 mAP"),
        ((0.7, 0.8, 0.7), False, r"^Re-encoding is not due: .* -0.1000 mAP"),
        ((0.7, 0.8, 0.9), True, r"^Re-encoding is due: .* cost new queries 0.1000 mAP\.$"),
        ((0.85, 0.8, 0.9), True, r"0.1000 mAP\. Until then the old network is the better"),
    ],
)
def test_advice_follows_from_what_new_queries_lose(means, due, sentence):
    judged = compatibility._judge(dict(zip("abc", means, strict=True)), True)
    assert judged["reencoding_due"] is due
    assert re.search(sentence, judged["advice"])


def test_items_that_a_network_does_not_take_are_refused(old, new):
    images = make_images(4)
    wide = ImageArrays(np.zeros((4, 9, 8, 1), np.uint8), images.labels)
    with pytest.raises(ValueError, match="must have the network's shape"):
        compare_networks(old, new, Splits(wide, wide, wide))
