"""Laws of KerasHub's presets as backbones; those of its own sizes and weights need a download."""

import sys

import keras
import numpy as np
import pytest

from tests.core.backend import assert_close
from tests.core.tiny_presets import make_resnet, save_preset
from tfpqn.models import build_backbone
from tfpqn.models.backbones import backbone_of_weights, image_size_of

SHAPE = (32, 32, 3)


@pytest.fixture
def keras_hub():
    return pytest.importorskip("keras_hub", reason="needs KerasHub: pip install 'tfpqn[hub]'")


def test_a_preset_is_a_backbone_of_pixels_as_its_image_converter_makes_them(
    keras_hub, rng, tmp_path
):
    net = make_resnet(keras_hub)
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=SHAPE[:2], scale=[1 / 58, 1 / 57, 1 / 56], offset=[-2.1, -2.0, -1.8]
    )
    preset = save_preset(net, converter, tmp_path / "preset")
    assert backbone_of_weights(preset) == "keras_hub" and image_size_of("keras_hub", preset) == 32
    images = rng.integers(0, 256, (2, *SHAPE)).astype("uint8")
    backbone = build_backbone("keras_hub", SHAPE, weights=preset)
    assert_close(backbone(images), net(converter(images)), 1e-4)


def test_tokens_of_a_preset_are_averaged_and_its_size_is_kept(keras_hub, rng, tmp_path):
    net = keras_hub.models.ViTBackbone(
        image_shape=SHAPE, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    converter = keras_hub.layers.ViTImageConverter(image_size=SHAPE[:2], scale=1 / 255)
    preset = save_preset(net, converter, tmp_path / "preset")
    images = rng.integers(0, 256, (2, *SHAPE)).astype("uint8")
    expected = keras.ops.mean(net(images / np.float32(255)), axis=1)
    assert_close(build_backbone("keras_hub", SHAPE, weights=preset)(images), expected, 1e-4)
    with pytest.raises(ValueError, match="images .48, 48, 3.*Received: one of .32, 32, 3"):
        build_backbone("keras_hub", (48, 48, 3), weights=preset)


def test_a_preset_without_an_image_converter_and_an_unknown_one_are_refused(keras_hub, tmp_path):
    preset = save_preset(make_resnet(keras_hub), None, tmp_path / "preset")
    for wrong in (preset, "nonsense"):
        with pytest.raises(ValueError, match=rf"image_converter.save_to_preset.*{wrong}"):
            image_size_of("keras_hub", wrong)


def test_without_keras_hub_a_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    sentence = r"needs KerasHub. Install it by `pip install 'tfpqn\[hub\]'`"
    with pytest.raises(ImportError, match=sentence):
        build_backbone("keras_hub", SHAPE, weights="resnet_50_imagenet")
