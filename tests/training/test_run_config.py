"""Laws of a run's settings: they make the network, and a bad one is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.tiny import IMAGE_SHAPE, arrays_of, assert_bit_equal
from tfpqn.datasets import ClipArrays, ImageArrays
from tfpqn.training import Run, RunConfig

SMALL = {"bits": 16, "embedding_dim": 16, "epochs": 20}


def build(**settings: Any) -> Any:
    return RunConfig(**{**SMALL, **settings}).build_network(IMAGE_SHAPE, steps=50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"protocol": None},
            "one of a protocol, a folder.*=None, images=None, videos=None",
        ),
        ({"images": "birds"}, "one of a protocol, a folder.*'digits', images='birds'"),
        ({"videos": "films"}, "one of a protocol, a folder.*'digits', .*videos='films'"),
        (
            {"protocol": None, "images": "birds", "videos": "films"},
            "one of a protocol, a folder.*images='birds', videos='films'",
        ),
        ({"model": "vgg"}, r"model must be one of \['pqn'.*Received: 'vgg'"),
        ({"bits": 0}, "bits must be a positive multiple.*bits=0, num_subspaces=4"),
        ({"bits": -4}, "bits must be a positive multiple.*bits=-4"),
        ({"bits": 18}, "bits must be a positive multiple.*bits=18, num_subspaces=4"),
        ({"num_subspaces": 0}, "num_subspaces must be .*at least 1.*num_subspaces=0"),
        ({"embedding_dim": 18}, "embedding_dim must be a multiple.*embedding_dim=18"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1. Received: 0"),
        ({"backbone": "vgg"}, "Unknown backbone.*conv3.*resnet20.*ResNet50.*Received: 'vgg'"),
        ({"weights": "imagenet"}, "'conv3' has no published weights.*'imagenet'"),
        ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
        ({"loss_form": "cubic"}, "form must be one of .*sigmoid.*Received: form='cubic'"),
        ({"loss_scale": -1.0}, "scale must be positive and finite. Received: scale=-1.0"),
        ({"epochs": -1}, "epochs must be at least 0. Received: -1"),
        ({"optimizer": "lion"}, r"optimizer must be one of \[.adam., .sgd.\]. Received: .lion."),
        (
            {"precision": "mixed_float16"},
            r"precision must be one of \[.float32., .mixed_bfloat16.\]. Received: .mixed_float16.",
        ),
        ({"weight_decay": 1.0}, r"weight_decay must lie in \[0, 1\). Received: 1.0"),
        (
            {"loss_weight": 0.0, "classification_weight": 0.0},
            "loss_weight .* not both 0. Received: 0.0, 0.0",
        ),
        ({"loss_weight": -1.0}, "loss_weight .* at least 0"),
        ({"color_jitter": 0.5, "augment": False}, r"color_jitter must .* 0 without augment"),
        ({"color_jitter": 1.0, "augment": True}, r"color_jitter must lie in \[0, 1\)"),
        ({"views": 2, "augment": False}, "views must .* be 1 without augment. Received: views=2"),
        ({"views": 3, "augment": True}, "views must .* divide batch_size.*batch_size=64"),
        (
            {"views": 2, "augment": True, "classification_weight": 1.0},
            "views above 1 train without labels.*classification_weight=1.0",
        ),
        ({"samples_per_class": 1}, "samples_per_class must be 0, or at least 2.*class=1, batch"),
        ({"samples_per_class": 64}, "samples_per_class must .* into two or more.*class=64"),
        ({"samples_per_class": 3}, "samples_per_class must .* divide batch_size.*batch_size=64"),
        (
            {"samples_per_class": 4, "views": 2, "augment": True},
            "samples_per_class must .* be 0 with several views.*views=2",
        ),
        ({"max_shift": -1}, "max_shift must be at least 0. Received: -1"),
        ({"min_area": 0.5, "augment": False}, "min_area must .* be 1 without augment"),
        ({"min_area": 0.0, "augment": True}, r"min_area must lie in \(0, 1\]"),
        ({"cutout": 4, "augment": False}, r"cutout must be .* 0 without augment"),
        ({"cutout": -1, "augment": True}, "cutout must be at least 0"),
        ({"epochs": 2, "warmup_epochs": 2}, r"warmup_epochs must lie in \[0, 2\)"),
        ({"normalization": "layer"}, "normalization must be one of"),
        ({"normalization": "none", "backbone": "resnet20"}, "normalization is for the backbone"),
        ({"learning_rate": 0.0}, "learning_rate must be positive. Received: 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive. Received: nan"),
        ({"seed": -1}, "[Ss]eed"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize("size", [0, -8])
def test_bad_image_size_is_named(tmp_path: Path, size: int) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=f"image_size must be .*Received: {size}"):
        RunConfig(protocol=None, images=str(tmp_path), image_size=size).load_splits()


CLIPS = {"model": "tpqn", "protocol": "moving-digits"}


@pytest.mark.parametrize(
    ("settings", "levels", "subspaces", "length"),
    [
        ({}, 1, 4, 4),
        ({"num_subspaces": 2}, 1, 2, 2),
        ({"model": "rpqn"}, 2, 2, 4),
        ({"model": "rpqn", "num_levels": 1}, 1, 4, 4),
        ({"model": "rpqn", "num_levels": 4}, 4, 1, 4),
        ({"model": "rpqn", "num_levels": 8}, 8, 1, 8),
        ({"model": "rpqn", "num_levels": 2, "num_subspaces": 4}, 2, 4, 8),
        (CLIPS, 1, 2, 4),
        ({**CLIPS, "num_segments": 4}, 1, 1, 4),
        ({**CLIPS, "num_segments": (1,)}, 1, 4, 4),
        ({**CLIPS, "num_levels": 2}, 2, 1, 4),
        ({**CLIPS, "num_segments": (1, 2, 5)}, 1, 1, 8),
    ],
    ids=str,
)
def test_sizes_left_open_give_codes_of_four_positions_or_the_fewest_there_can_be(
    settings: dict[str, Any], levels: int, subspaces: int, length: int
) -> None:
    config = RunConfig(**{"bits": 8, "embedding_dim": 16, **settings})
    assert (config.num_levels, config.num_subspaces, config.code_length) == (
        levels,
        subspaces,
        length,
    )
    # What is filled in is written down: given, it is the same.
    assert RunConfig(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "tpqn"},
            r"model must be one of \['pqn', 'rpqn'\] for 'digits'.*images.*'tpqn'",
        ),
        (
            {"model": "tpqn", "protocol": None, "images": "birds"},
            r"model must be one of \['pqn', 'rpqn'\] for 'images'.*are images.*'tpqn'",
        ),
        (
            {"model": "rpqn", "protocol": "moving-digits"},
            r"model must be one of \['tpqn'\] for 'moving-digits'.*are clips.*'rpqn'",
        ),
        (
            {"protocol": None, "videos": "films"},
            r"model must be one of \['tpqn'\] for 'videos'.*are clips.*'pqn'",
        ),
        ({"protocol": "cifar"}, "Unknown protocol.*'cifar'"),
        ({"num_levels": 2}, "num_levels must be 1 with model='pqn'.*'rpqn'. Received: 2"),
        ({"model": "rpqn", "num_levels": 0}, "num_levels must be .*at least 1.*num_levels=0"),
        (
            {"model": "rpqn", "bits": 18},
            "bits must be a positive multiple of the 4 positions.*bits=18, num_subspaces=2",
        ),
        (
            {**CLIPS, "num_segments": (1, 2, 4)},
            "bits must be a positive multiple of the 7 positions.*x segments.*bits=16",
        ),
        ({"num_segments": (2, 4)}, r"num_segments is for model tpqn.*num_segments=\(2, 4\).*'pqn'"),
        ({"model": "rpqn", "num_segments": 4}, r"num_segments is for model tpqn.*\(4,\).*'rpqn'"),
        ({**CLIPS, "num_segments": ()}, r"num_segments must hold at least one.*num_segments=\(\)"),
        ({**CLIPS, "num_segments": (2, 0)}, "num_segments must be .*at least 1.*num_segments=0"),
        ({"num_frames": 8}, "num_frames must be .*for clips alone.*num_frames=8, model='pqn'"),
        ({**CLIPS, "num_frames": 0}, "num_frames must be at least 1.*num_frames=0, model='tpqn'"),
        ({**CLIPS, "num_frames": -1}, "num_frames must be at least 1.*num_frames=-1"),
        (
            {"model": "rpqn", "level_loss_weight": -0.5},
            "level_loss_weight must be finite and at least 0. Received: -0.5",
        ),
        (
            {"model": "rpqn", "level_loss_weight": float("nan")},
            "level_loss_weight must be finite and at least 0. Received: nan",
        ),
        (
            {"model": "rpqn", "level_loss_weight": 0.5, "residuals": "reconstructions"},
            "level_loss_weight must be 0 with residuals='reconstructions'.*Received: 0.5",
        ),
        ({"residuals": "reconstructions"}, "residuals is for model rpqn and tpqn.*model='pqn'"),
        ({**CLIPS, "embedding_dim": 15}, "embedding_dim must be a multiple of num_subspaces.*15"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_setting_that_does_not_fit_the_model_is_refused_before_any_data_is_read(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig(**{**SMALL, **settings})


@pytest.mark.parametrize(
    "settings",
    [{"straight_through": "some"}, {"straight_through": "all"}, {"share_codebooks": True}],
    ids=str,
)
def test_setting_of_another_model_is_not_passed_over(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} .*[Rr]eceived"):
        RunConfig(**settings)


def test_segments_are_a_tuple_whatever_they_came_as() -> None:
    stages = {**SMALL, **CLIPS, "bits": 14}
    config = RunConfig(**stages, num_segments=(1, 2, 4))
    assert RunConfig(**stages, num_segments=[1, 2, 4]) == config
    from_json = RunConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert from_json == config
    assert from_json.num_segments == (1, 2, 4)
    assert hash(from_json) == hash(config)
    assert RunConfig(**SMALL, **CLIPS, num_segments=4).num_segments == (4,)


# As version 0.1.0 wrote it.
OLD_SETTINGS = {
    "protocol": "digits",
    "images": None,
    "image_size": 64,
    "model": "pqn",
    "bits": 24,
    "num_subspaces": 4,
    "embedding_dim": 512,
    "backbone": "conv3",
    "weights": None,
    "alpha": 5.0,
    "loss_form": "softplus",
    "loss_scale": 4.0,
    "loss_margin": 0.0,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 0.003,
    "augment": False,
    "seed": 0,
}


def test_settings_written_before_there_were_levels_and_clips_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(OLD_SETTINGS))
    run = Run.open(tmp_path)
    assert run.config == RunConfig.plain()
    assert {name: getattr(run.config, name) for name in OLD_SETTINGS} == OLD_SETTINGS
    # It has begun, and goes on with the same settings.
    (tmp_path / "network.keras").touch()
    assert Run.start(tmp_path, RunConfig.plain(**OLD_SETTINGS)) == run
    with pytest.raises(ValueError, match=r"own settings.*model='pqn' -> 'rpqn'"):
        Run.start(tmp_path, RunConfig.plain(**{**OLD_SETTINGS, "model": "rpqn"}))


def test_residual_network_is_made_as_the_settings_say() -> None:
    network = build(model="rpqn", num_levels=3, num_subspaces=2, bits=12, alpha=2.0)
    quantizer = network.quantizer
    assert np.shape(quantizer.codebooks) == (3, 2, 4, 8)
    assert (quantizer.num_levels, quantizer.bits_per_code) == (3, 12)
    assert quantizer.alpha == 2.0
    assert network.items.kind == "images"


def test_network_of_clips_is_made_as_the_settings_say() -> None:
    network = build(**CLIPS, num_segments=(1, 2), num_levels=2, bits=12, share_codebooks=True)
    quantizer = network.quantizer
    assert network.items.kind == "clips"
    assert network.image_shape == IMAGE_SHAPE
    assert (quantizer.pyramid, quantizer.num_levels, quantizer.code_length) == ((1, 2), 2, 6)
    assert np.shape(quantizer.codebooks) == (2, 1, 4, 16)
    assert quantizer.embedding_dim == 3 * 16
    assert quantizer.share_codebooks


def test_settings_are_fixed_and_survive_json() -> None:
    config = RunConfig(bits=32, augment=True, learning_rate=1e-4)
    assert RunConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.bits = 16


def test_network_is_made_as_the_settings_say() -> None:
    network = build(
        num_subspaces=2,
        bits=10,
        embedding_dim=24,
        alpha=3.0,
        loss_form="hinge",
        loss_scale=2.0,
        loss_margin=0.5,
    )
    quantizer = network.quantizer
    assert np.shape(quantizer.codebooks) == (2, 32, 12)
    assert (quantizer.bits_per_code, quantizer.alpha) == (10, 3.0)
    assert (network.loss.form, network.loss.scale, network.loss.margin) == ("hinge", 2.0, 0.5)
    assert network.image_shape == IMAGE_SHAPE


def test_learning_rate_falls_to_zero_over_all_steps() -> None:
    optimizer = build(learning_rate=0.01, warmup_epochs=0.0).optimizer
    rates = []
    for step in (0, 25, 50):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.01, 0.005, 0.0], abs=1e-7)


def test_weights_follow_from_the_seed() -> None:
    first, again, other = (build(seed=seed) for seed in (4, 4, 5))
    assert_bit_equal(first.variables, again.variables)
    pairs = zip(arrays_of(first.weights), arrays_of(other.weights), strict=True)
    assert not all(np.array_equal(one, two) for one, two in pairs)


@pytest.mark.parametrize(
    ("num_items", "epochs"), [(200, 100), (2000, 50), (4999, 20), (50_000, 20)]
)
def test_open_epochs_show_so_many_images_but_no_set_too_often_or_too_seldom(
    num_items: int, epochs: int
) -> None:
    images = np.zeros((num_items, 1, 1, 1), np.uint8)
    items = ImageArrays(images, np.zeros(num_items, np.int64))
    assert RunConfig().for_items(items).epochs == epochs
    assert RunConfig(epochs=3).for_items(items).epochs == 3


def test_frames_count_as_images_for_open_epochs() -> None:
    frames = np.zeros((2500 * 2, 1, 1, 1), np.uint8)
    clips = ClipArrays(frames, np.arange(2501) * 2, np.zeros(2500, np.int64), num_frames=2)
    assert RunConfig(**CLIPS).for_items(clips).epochs == 20


def test_a_classifier_is_left_out_where_items_have_several_labels_or_none() -> None:
    images = np.zeros((4, 1, 1, 1), np.uint8)
    one, several = np.arange(4), np.eye(4, dtype=np.int64)
    weights = [
        config.for_items(ImageArrays(images, labels)).classification_weight
        for config, labels in (
            (RunConfig(), one),
            (RunConfig(), several),
            (RunConfig(views=2), one),
            (RunConfig(classification_weight=0.5), one),
        )
    ]
    assert weights == [1.0, 0.0, 0.0, 0.5]


def test_small_images_are_shifted_less() -> None:
    shifts = [
        RunConfig(**settings)
        .for_items(ImageArrays(np.zeros((4, side, side, 1), np.uint8), np.arange(4)))
        .max_shift
        for side, settings in ((8, {}), (28, {}), (32, {}), (64, {}), (8, {"max_shift": 3}))
    ]
    assert shifts == [0, 1, 2, 2, 3]


def test_large_steps_are_not_taken_from_trained_weights() -> None:
    rates = [
        RunConfig(**settings).learning_rate
        for settings in ({}, {"initial_run": "run"}, {"optimizer": "sgd"}, {"learning_rate": 0.3})
    ]
    assert rates == pytest.approx([0.001, 0.0001, 0.1, 0.3])


def test_data_is_that_of_the_protocol_or_of_the_folder(tmp_path: Path) -> None:
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number in range(10):
            Image.new("L", (9, 12), color=number).save(tmp_path / label / f"{number}.png")
        (tmp_path / label / "broken.png").write_text("not an image")
    config = RunConfig(protocol=None, images=str(tmp_path), image_size=16)
    splits = config.load_splits()
    assert splits.train.image_shape == (16, 16, 3)
    assert len(splits.database) + len(splits.query) == 20
    assert set(splits.query.labels) == {0, 1}
    assert set(splits.train.skipped) == {"ant/broken.png", "bee/broken.png"}
    for one, other in (
        (RunConfig().load_splits(), config.load_splits(protocol="digits")),
        (splits, config.load_splits()),
    ):
        assert one.describe() == other.describe()
