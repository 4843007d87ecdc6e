"""Laws of a run's settings: they make the network, and a bad one is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.tiny import IMAGE_SHAPE, arrays_of, assert_bit_equal
from tfpqn.training import RunConfig

SMALL = {"bits": 16, "embedding_dim": 16}


def build(**settings: Any) -> Any:
    return RunConfig(**{**SMALL, **settings}).build_network(IMAGE_SHAPE, steps=50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": None}, "either a protocol or a folder.*protocol=None, images=None"),
        ({"images": "birds"}, "either a protocol or a folder.*'digits', images='birds'"),
        ({"model": "vgg"}, r"model must be one of \['pqn'.*Received: 'vgg'"),
        ({"bits": 0}, "bits must be a positive multiple.*bits=0, num_subspaces=4"),
        ({"bits": -4}, "bits must be a positive multiple.*bits=-4"),
        ({"bits": 18}, "bits must be a positive multiple.*bits=18, num_subspaces=4"),
        ({"num_subspaces": 0}, "bits must be a positive multiple.*num_subspaces=0"),
        ({"embedding_dim": 18}, "embedding_dim must be a multiple.*embedding_dim=18"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1. Received: 0"),
        ({"backbone": "vgg"}, "Unknown backbone.*conv3.*resnet20.*ResNet50.*Received: 'vgg'"),
        ({"weights": "imagenet"}, "'conv3' has no published weights.*'imagenet'"),
        ({"alpha": 0.0}, "alpha must be positive and finite. Received: alpha=0.0"),
        ({"loss_form": "cubic"}, "form must be one of .*sigmoid.*Received: form='cubic'"),
        ({"loss_scale": -1.0}, "scale must be positive. Received: scale=-1.0"),
        ({"epochs": 0}, "epochs must be at least 1. Received: 0"),
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
    optimizer = build(learning_rate=0.01).optimizer
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


def test_data_is_that_of_the_protocol_or_of_the_folder(tmp_path: Path) -> None:
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number in range(10):
            Image.new("L", (9, 12), color=number).save(tmp_path / label / f"{number}.png")
        (tmp_path / label / "broken.png").write_text("not an image")
    config = RunConfig(protocol=None, images=str(tmp_path), image_size=16)
    splits = config.load_splits()
    assert splits.train.image_shape == (16, 16, 3)
    assert (len(splits.database), len(splits.query)) == (18, 2)
    assert set(splits.train.skipped) == {"ant/broken.png", "bee/broken.png"}
    for one, other in (
        (RunConfig().load_splits(), config.load_splits(protocol="digits")),
        (splits, config.load_splits()),
    ):
        assert one.describe() == other.describe()
