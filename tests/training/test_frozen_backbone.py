"""Laws of training on the features of a frozen backbone."""

import keras
import numpy as np
import pytest
from PIL import Image

from tests.training.lite0 import write_photos, write_weights
from tfpqn.training import Run, RunConfig, train
from tfpqn.training.runs.frozen_backbone import FrozenBackbone

SETTINGS = {"image_size": 32, "bits": 4, "num_subspaces": 2, "embedding_dim": 8, "epochs": 6}
SETTINGS |= {"batch_size": 16, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "lite0.npz")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def train_run(folder, photos, **settings):
    config = RunConfig.of(images=str(photos), **{**SETTINGS, **settings})
    run = Run.start(folder, config)
    splits = run.load_splits()
    return run, train(run, splits, progress=False), splits


def test_changed_photos_have_features_of_their_own(tmp_path, photos, weights):
    run = Run(tmp_path, RunConfig.of(images=str(photos), weights=str(weights), **SETTINGS))
    assert run.config.model.backbone == "efficientnet_lite0"
    splits = run.load_splits()
    frozen = FrozenBackbone(run.for_items(splits.train), splits, progress=False)
    keys = {frozen._key(splits.train), frozen._key(splits.train.subset(np.arange(9)))}
    path = splits.train.files[0]
    Image.open(path).rotate(90).save(path)
    keys.add(frozen._key(splits.train))
    for setting in ({"precision": "mixed_bfloat16"}, {"mirror": True}):
        other = Run(tmp_path, run.config.replace(**setting))
        keys.add(FrozenBackbone(other, splits, progress=False)._key(splits.train))
    assert len(keys) == 5


def test_features_are_kept_in_the_own_folder_where_the_initial_run_takes_none(
    tmp_path, photos, weights, monkeypatch
):
    config = RunConfig.of(images=str(photos), weights=str(weights), **SETTINGS)
    start = Run.start(tmp_path / "start", config)
    settings = {"initial_run": str(start.folder), "freeze_backbone": True}
    run = Run.start(tmp_path / "run", config.replace(**settings))
    splits = run.load_splits()
    computed = {"vectors": np.ones((2, 3), np.float32), "rows": np.array([0, 1])}
    monkeypatch.setattr(FrozenBackbone, "_compute", lambda *_: computed)
    # Nobody can write below a file.
    (start.folder / "features").touch()
    FrozenBackbone(run, splits, progress=False)._features(splits.query)
    monkeypatch.setattr(FrozenBackbone, "_compute", lambda *_: pytest.fail("computed again"))
    again = FrozenBackbone(run, splits, progress=False)._features(splits.query)
    np.testing.assert_array_equal(again.vectors, computed["vectors"])


def test_fine_tuning_moves_the_last_layers_of_an_initial_run_alone(tmp_path, photos):
    layers = keras.layers
    inner = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Conv2D(8, 3)]
    mine = [keras.Input((8, 8, 3)), *inner, layers.GlobalAveragePooling2D()]
    keras.Sequential(mine).save(tmp_path / "mine.keras")
    small = {"weights": str(tmp_path / "mine.keras"), "image_size": 8}
    run, start, _ = train_run(tmp_path / "run", photos, **small, epochs=0)
    small |= {"initial_run": str(run.folder), "fine_tune": 0.3}
    run, _, _ = train_run(tmp_path / "tuned", photos, **small, epochs=1)
    first, second = start.backbone.get_weights(), run.load_network().backbone.get_weights()
    same = [bool((a == b).all()) for a, b in zip(first, second, strict=True)]
    # The kernel, and its bias, of the last of three layers with weights.
    assert same == [True] * 6 + [False] * 2
    # Frozen afterwards, the tuned layers make the features, which lie where others find them.
    small |= {"initial_run": str(run.folder), "fine_tune": None, "freeze_backbone": True}
    later, network, splits = train_run(tmp_path / "later", photos, **small, epochs=1)
    for kept, tuned in zip(network.backbone.get_weights(), second, strict=True):
        np.testing.assert_array_equal(kept, tuned)
    assert list((run.folder / "features").iterdir()) and not (later.folder / "features").exists()
    frozen = FrozenBackbone(later, splits, progress=False)
    queries = frozen.splits(with_queries=True).query.vectors
    np.testing.assert_allclose(
        frozen.head(network).embed(queries),
        network.embed(next(splits.query.batches(len(queries))).images),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_a_frozen_backbone_would_not_do_is_refused():
    with pytest.raises(ValueError, match="fine_tune is for a backbone that learns.*fine_tune=0.5"):
        RunConfig.of(images="a", weights="imagenet", freeze_backbone=True, fine_tune=0.5)
    with pytest.raises(ValueError, match="fine_tune is for.*or an initial_run.*weights=None"):
        RunConfig.of(images="a", fine_tune=0.5)
    with pytest.raises(ValueError, match="views changes images.*give fine_tune.*views=2"):
        RunConfig.of(images="photos", weights="imagenet", views=2)
    assert not RunConfig.of(images="a", weights="imagenet", fine_tune=0.5).model.freeze_backbone


def test_freezing_needs_weights_and_single_images():
    with pytest.raises(ValueError, match="freeze_backbone needs weights.*weights=None"):
        RunConfig.of(images="photos", freeze_backbone=True)
