"""Laws of a run's settings: they make the network, and a bad one is named."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from tests.datasets.pictures import write_image
from tests.training.tiny import IMAGE_SHAPE, arrays_of, assert_bit_equal
from tfpqn.datasets import ClipArrays, ImageArrays
from tfpqn.training import Run, RunConfig
from tfpqn.training.settings.run_config import settings_by_name
from tfpqn.training.settings.settings_file import settings_from_json, settings_to_json

SMALL = {"bits": 24, "embedding_dim": 16, "epochs": 20}
CLIPS = {"model": "tpqn", "protocol": "moving-digits"}
SUBSPACES = {"similarity": "subspace"}
LEVELS = {"model": "rpqn"}


def build(**settings):
    return RunConfig.of(**{**SMALL, **settings}).build_network(IMAGE_SHAPE, steps=50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "digits", "images": "birds"}, "one of protocol, images, videos.*birds'"),
        ({"protocol": "cifar"}, "Unknown protocol.*'cifar'"),
        ({"model": "vgg"}, r"model must be one of \['pqn'.*Received: 'vgg'"),
        (
            {"model": "tpqn", "protocol": "digits"},
            r"model must be one of \['pqn', 'rpqn'\] for 'digits'.*images.*'tpqn'",
        ),
        ({"videos": "films"}, r"model must be one of \['tpqn'\] for 'videos'.*are clips.*'pqn'"),
        ({"num_frames": 8}, "num_frames is for clips alone.*num_frames=8, model='pqn'"),
        ({"bits": 0}, "bits must be a positive multiple.*bits=0, num_levels=1, num_subspaces=1"),
        ({"bits": 25}, "bits must be a positive multiple of the 4 positions.*bits=25"),
        ({"bits": 40, "num_subspaces": 1}, "at most 16 for each. Received: bits=40, num_levels=1"),
        ({**CLIPS, "num_segments": (1, 2, 4)}, "multiple of the 7 positions.*x segments.*bits=24"),
        ({"num_levels": 2}, "num_levels is for model rpqn and tpqn.*num_levels=2, model='pqn'"),
        ({**LEVELS, "num_segments": 4}, r"num_segments is for model tpqn.*\(4,\).*'rpqn'"),
        ({"motion": 2}, "motion is for model tpqn. Received: motion=2, model='pqn'"),
        ({**CLIPS, "motion": 2, "weights": "imagenet"}, "motion is for a backbone without weights"),
        ({**CLIPS, "num_segments": ()}, r"num_segments must hold at least one.*num_segments=\(\)"),
        ({**SUBSPACES, "embedding_dim": 18}, "embedding_dim must be a multiple.*embedding_dim=18"),
        ({"backbone": "vgg"}, "Unknown backbone.*conv3.*ResNet50.*Received: 'vgg'"),
        ({"normalization": "none", "backbone": "resnet9"}, "normalization is for the backbone"),
        (
            {"weights": "imagenet", "backbone": "conv3"},
            "'conv3' has no published weights.*'imagenet'",
        ),
        ({"precision": "mixed_float16"}, "precision must be one of .*Received: 'mixed_float16'"),
        ({"freeze_codebooks": True}, "freeze_codebooks needs initial_run.*initial_run=None"),
        ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
        ({"loss_scale": -1.0}, "scale must be positive and finite. Received: scale=-1.0"),
        ({"loss_weight": 0.0, "classification_weight": 0.0}, "must not both be 0"),
        ({"optimizer": "lion"}, "optimizer must be one of .*Received: 'lion'"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0. Received: nan"),
        ({"epochs": 2, "warmup_epochs": 2}, "warmup_epochs must be below 2.*Received: 2"),
        ({"earlier_epochs": (30,)}, r"earlier_epochs must rise .*epochs=20. Received: \(30,\)"),
        ({"color_jitter": 0.5, "augment": False}, "color_jitter must be 0.0 without augment"),
        ({"views": 3, "batch_size": 64}, "views must divide batch_size.*views=3, batch_size=64"),
        ({"views": 2, "classification_weight": 1.0}, "views above 1 train without labels"),
        ({"samples_per_class": 64}, "samples_per_class must .* into two or more.*class=64"),
        ({"samples_per_class": 4, "views": 2}, "samples_per_class must .* be 0 with several views"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


BOUNDS = [
    (name, words, {"at_least": bound - 1, "at_most": bound + 1}.get(words, bound))
    for name, (_, field) in settings_by_name().items()
    for words, bound in field.metadata["bounds"].items()
]


@pytest.mark.parametrize(("name", "words", "value"), BOUNDS)
def test_value_out_of_the_bounds_of_its_setting_is_named(name, words, value):
    with pytest.raises(ValueError, match=f"{name} must be .*{words.replace('_', ' ')}.*Received"):
        RunConfig.of(**{name: value})


def test_setting_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(TypeError, match=r"must be one of .*'bits'.*Received: \['colour'\]"):
        RunConfig.of(colour="red")


@pytest.mark.parametrize(
    ("settings", "levels", "subspaces", "length"),
    [
        ({}, 1, 4, 4),
        ({"num_subspaces": 2}, 1, 2, 2),
        ({"bits": 48}, 1, 4, 4),
        ({"bits": 56}, 1, 8, 8),
        ({"bits": 20}, 1, 2, 2),
        ({"bits": 12}, 1, 2, 2),
        ({"bits": 10}, 1, 1, 1),
        ({**LEVELS, "bits": 12}, 2, 1, 2),
        ({**LEVELS}, 2, 2, 4),
        ({**LEVELS, "num_levels": 8}, 8, 1, 8),
        (CLIPS, 1, 4, 4),
        ({**CLIPS, "motion": 0}, 1, 2, 4),
        ({**CLIPS, "num_levels": 2}, 2, 2, 4),
        ({**CLIPS, "num_segments": (1, 2, 5)}, 1, 1, 8),
    ],
    ids=str,
)
def test_sizes_left_open_give_four_positions_or_so_many_that_each_has_from_6_to_12_bits(
    settings, levels, subspaces, length
):
    settings = {"bits": 24, "embedding_dim": 16, "similarity": "subspace", **settings}
    config = RunConfig.of(**settings)
    sizes = (config.model.num_levels, config.model.num_subspaces, config.model.code_length)
    assert sizes == (levels, subspaces, length)
    # What is filled in is written down: given, it is the same.
    assert RunConfig.of(**config.flat()) == config


@pytest.mark.parametrize(("bits", "beam_size"), [(32, 16), (64, 1)])
def test_levels_of_large_codebooks_are_coded_without_a_beam(bits, beam_size):
    config = RunConfig.of(model="rpqn", similarity="l2", num_levels=3, bits=bits)
    assert config.model.beam_size == beam_size


@pytest.mark.parametrize(
    "config",
    [
        RunConfig.of(bits=32, augment=False, learning_rate=1e-4, initial_run="a"),
        RunConfig.of(**CLIPS, bits=14, num_segments=(1, 2, 4), epochs=9, earlier_epochs=(2, 5)),
    ],
    ids=["images", "clips"],
)
def test_settings_are_fixed_and_survive_json_by_part_and_by_name(config):
    content = settings_to_json(config)
    assert content["model"]["bits"] == config.model.bits
    for written in (content, config.flat()):
        again = settings_from_json(json.loads(json.dumps(written)))
        assert again == config
        assert hash(again) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.model.bits = 16
    assert config.replace(bits=28, seed=4).flat() == {**config.flat(), "bits": 28, "seed": 4}


def test_settings_of_version_0_1_mean_the_same(tmp_path):
    former = {
        **{"protocol": "digits", "images": None, "image_size": 64, "model": "pqn", "bits": 24},
        **{"num_subspaces": 4, "embedding_dim": 512, "backbone": "conv3", "weights": None},
        **{"alpha": 5.0, "loss_form": "softplus", "loss_scale": 4.0, "loss_margin": 0.0},
        **{"epochs": 20, "batch_size": 128, "learning_rate": 0.003, "augment": False, "seed": 0},
    }
    (tmp_path / "run.json").write_text(json.dumps(former))
    run = Run.open(tmp_path)
    assert run.config == RunConfig.plain()
    assert run.config.flat().items() >= former.items()
    # It has begun, and goes on with the same settings.
    (tmp_path / "network.keras").touch()
    assert Run.start(tmp_path, RunConfig.plain(**former)) == run
    with pytest.raises(ValueError, match=r"own settings.*bits=24 -> 32"):
        Run.start(tmp_path, RunConfig.plain(**{**former, "bits": 32}))


@pytest.mark.parametrize(("bits", "width"), [(64, 64), (16, 64), (24, 66), (40, 65), (56, 70)])
def test_whitened_features_are_as_long_as_the_codebooks_can_share(bits, width):
    settings = {"images": "a", "weights": "imagenet", "similarity": "cosine", "model": "pqn"}
    assert RunConfig.of(**settings, bits=bits).model.width == width


def test_an_initial_run_is_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other = (RunConfig.of(initial_run=path) for path in ("run", "./run"))
    assert first == other and first.model.initial_run == str(tmp_path / "run")


def test_network_is_made_as_the_settings_say():
    network = build(
        **{"num_subspaces": 2, "bits": 10, "embedding_dim": 8, "alpha": 2.0, "loss_form": "hinge"},
        **{"loss_scale": 3.0, "loss_margin": 0.5, "learning_rate": 0.02, "warmup_epochs": 0.0},
    )
    assert np.shape(network.quantizer.codebooks) == (2, 32, 4)
    assert (network.quantizer.alpha, network.loss.form, network.loss.scale) == (2.0, "hinge", 3.0)
    assert network.loss.margin == 0.5
    rates = []
    for step in (0, 25, 50):
        network.optimizer.iterations.assign(step)
        rates.append(float(network.optimizer.learning_rate))
    assert rates == pytest.approx([0.02, 0.01, 0.0], abs=1e-7)


def test_networks_of_levels_and_of_clips_are_made_as_the_settings_say():
    levels = build(**LEVELS, num_levels=3, num_subspaces=2, bits=12).quantizer
    assert np.shape(levels.codebooks) == (3, 2, 4, 8)
    assert (levels.num_levels, levels.bits_per_code) == (3, 12)
    network = build(**CLIPS, num_segments=(1, 2), num_levels=2, bits=12)
    clips = network.quantizer
    assert (network.items.kind, network.image_shape) == ("clips", IMAGE_SHAPE)
    assert (clips.pyramid, clips.num_levels, clips.code_length) == ((1, 2), 2, 6)
    assert np.shape(clips.codebooks) == (2, 3, 4, 16)
    height, width, channels = IMAGE_SHAPE
    assert network.backbone.input_shape == (None, height, width, 16 * channels)
    by_frame = build(**CLIPS, motion=0).quantizer
    assert (build(**CLIPS).quantizer.pyramid, by_frame.pyramid) == ((1,), (2,))


def test_weights_decay_in_kernels_alone_and_the_rate_rises_before_it_falls():
    network = build(optimizer="sgd", learning_rate=0.1, weight_decay=0.01, warmup_epochs=4.0)
    optimizer = network.optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)
    optimizer.build(network.trainable_variables)
    decayed = [v.path for v in network.trainable_variables if optimizer._use_weight_decay(v)]
    assert decayed and all(path.endswith("kernel") for path in decayed)
    rates = []
    for step in (0, 5, 10, 50):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.0], abs=1e-7)


def test_weights_follow_from_the_seed():
    first, again, other = (build(seed=seed) for seed in (4, 4, 5))
    assert_bit_equal(first.variables, again.variables)
    pairs = zip(arrays_of(first.weights), arrays_of(other.weights), strict=True)
    assert not all(np.array_equal(one, two) for one, two in pairs)


def make_items(number, side=1, labels=None):
    images = np.zeros((number, side, side, 1), np.uint8)
    return ImageArrays(images, np.arange(number) % 2 if labels is None else labels)


@pytest.mark.parametrize(
    ("num_items", "epochs"), [(200, 100), (2000, 50), (4999, 20), (50_000, 20)]
)
def test_open_epochs_show_so_many_images_but_no_set_too_often_or_too_seldom(num_items, epochs):
    assert RunConfig.of().for_items(make_items(num_items)).num_epochs == epochs
    assert RunConfig.of(epochs=3).for_items(make_items(num_items)).num_epochs == 3


def test_what_the_backbone_sees_of_clips_counts_as_images_for_open_epochs():
    frames = np.zeros((2500 * 2, 1, 1, 1), np.uint8)
    clips = ClipArrays(frames, np.arange(2501) * 2, np.arange(2500) % 2, num_frames=2)
    for settings, epochs in (({}, 40), ({"num_segments": 2}, 20), ({"motion": 0}, 20)):
        assert RunConfig.of(**CLIPS, **settings).for_items(clips).num_epochs == epochs


@pytest.mark.parametrize(
    ("settings", "labels", "weight"),
    [
        ({}, np.arange(4), 1.0),
        ({}, np.eye(4, dtype=np.int64), 0.0),
        ({"views": 2}, np.arange(4), 0.0),
        ({"classification_weight": 0.5}, np.arange(4), 0.5),
    ],
    ids=["one label", "several labels", "no labels", "given"],
)
def test_a_classifier_is_left_out_where_items_have_several_labels_or_none(settings, labels, weight):
    config = RunConfig.of(**settings).for_items(make_items(4, labels=labels))
    assert config.loss.classification_weight == weight


def test_small_images_are_shifted_less_and_trained_weights_moved_less():
    shifts = [RunConfig.of().for_items(make_items(4, n)).data.max_shift for n in (8, 28, 32, 64)]
    assert shifts == [0, 1, 2, 2]
    settings = ({}, {"initial_run": "run"}, {"optimizer": "sgd"}, {"learning_rate": 0.3})
    rates = [RunConfig.of(**each).optimization.learning_rate for each in settings]
    assert rates == pytest.approx([0.001, 0.0001, 0.1, 0.3])


def test_data_is_that_of_the_protocol_or_of_the_folder(tmp_path):
    for label in ("ant", "bee"):
        for number in range(10):
            write_image(tmp_path / label / f"{number}.png", number)
        (tmp_path / label / "broken.png").write_text("not an image")
    data = RunConfig.of(images=str(tmp_path), image_size=16).data
    splits = data.load_splits()
    assert splits.train.image_shape == (16, 16, 3)
    assert len(splits.database) + len(splits.query) == 20
    assert set(splits.train.skipped) == {"ant/broken.png", "bee/broken.png"}
    with pytest.raises(ValueError, match="for clips alone. Received: num_frames=5, images"):
        data.open_folder(num_frames=5)
