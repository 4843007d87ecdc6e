"""Quickstart and tutorials run from the page alone, in a clean folder."""

import pytest

from tests.docs.scenes import ROOT, run_page
from tests.training.lite0 import write_weights

DOCS = ROOT / "docs"
pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path):
    """A file of random weights in the place of those that Keras would download."""
    path = write_weights(tmp_path.parent / f"{tmp_path.name}-weights.npz")
    return {"--weights imagenet": f"--weights {path} --image-size 32"}


def test_the_quickstart_finds_the_right_digit(tmp_path):
    output = run_page(DOCS / "quickstart.md", tmp_path, {})
    assert "'3' '3' '3'" in output and "24 bits" in output


def test_photos(tmp_path, weights):
    output = run_page(DOCS / "tutorials/photos.md", tmp_path, weights)
    assert "48 bits" in output and output.count("mAP ") == 2


def test_vectors_find_themselves(tmp_path):
    output = run_page(DOCS / "tutorials/vectors.md", tmp_path, {})
    assert output.endswith("[0 1 2]\n")


def test_videos(tmp_path):
    pytest.importorskip("av")
    # Where ten epochs end depends on the start.
    before = "import keras\nkeras.utils.set_random_seed(1)"
    after = (
        "assert ids.shape == scores.shape == (1, 5)\n"
        "figures = tfpqn.training.evaluate(network, splits)\n"
        "assert figures['mAP'] > 0.5, figures['mAP']\n"
    )
    around = {"import keras, tfpqn": (before, after)}
    output = run_page(DOCS / "tutorials/videos.md", tmp_path, {}, around)
    assert "0.gif" in output


def test_photos_without_labels(tmp_path, weights):
    output = run_page(DOCS / "tutorials/no-labels.md", tmp_path, weights)
    assert "64 bits" in output and "query.png" in output


def test_several_labels_are_measured_and_filtered_by(tmp_path):
    output = run_page(DOCS / "tutorials/several-labels.md", tmp_path, {})
    assert "NDCG" in output


def test_a_backbone_of_keras_applications(tmp_path):
    output = run_page(DOCS / "howto/backbone.md", tmp_path, {})
    assert "Trained." in output
