"""Laws of training on the features of a frozen backbone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.lite0 import write_photos, write_weights
from tfpqn.training import Run, RunConfig, evaluate_run, train
from tfpqn.training.runs.frozen_backbone import FrozenBackbone

SETTINGS = {"image_size": 32, "bits": 4, "num_subspaces": 2, "embedding_dim": 8, "epochs": 6}
SETTINGS |= {"batch_size": 16, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "lite0.npz")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def train_run(folder: Path, photos: Path, weights: Path, **settings: Any) -> tuple[Run, Any, Any]:
    config = RunConfig.of(images=str(photos), weights=str(weights), **{**SETTINGS, **settings})
    run = Run.start(folder, config)
    splits = run.load_splits()
    return run, train(run, splits, progress=False), splits


def test_weights_alone_choose_and_freeze_their_backbone(
    tmp_path: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network, splits = train_run(tmp_path / "run", photos, weights)
    assert run.config.model.backbone == "efficientnet_lite0"
    fresh = run.config.build_network((32, 32, 3), 1, 4)
    for trained, given in zip(network.backbone.weights, fresh.backbone.weights, strict=True):
        np.testing.assert_array_equal(trained, given)
    history = [epoch["loss"] for epoch in run.read_history()]
    assert history[-1] < history[0]
    assert evaluate_run(run, run.load_network(), splits)["mAP"] > 0.4

    # Once more in the same folder: the features are there.
    monkeypatch.setattr(FrozenBackbone, "_compute", lambda *_: pytest.fail("computed again"))
    (run.folder / "network.keras").unlink()
    again = train(run, splits, progress=False)
    np.testing.assert_array_equal(again.quantizer.codebooks, network.quantizer.codebooks)


def test_changed_photos_have_features_of_their_own(
    tmp_path: Path, photos: Path, weights: Path
) -> None:
    run = Run(tmp_path, RunConfig.of(images=str(photos), weights=str(weights), **SETTINGS))
    splits = run.load_splits()
    frozen = FrozenBackbone(run.for_items(splits.train), splits, progress=False)
    keys = {frozen._key(splits.train), frozen._key(splits.train.subset(np.arange(9)))}
    path = splits.train.files[0]
    Image.open(path).rotate(90).save(path)
    keys.add(frozen._key(splits.train))
    assert len(keys) == 3


def test_freezing_needs_weights_and_single_images() -> None:
    with pytest.raises(ValueError, match="freeze_backbone needs weights.*weights=None"):
        RunConfig.of(images="photos", freeze_backbone=True)
