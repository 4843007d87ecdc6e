"""Laws of AlexNet: with torchvision's weights it computes what torchvision's net does."""

import numpy as np
import pytest

from tests.core.backend import to_numpy
from tfpqn.models import build_backbone
from tfpqn.models.alexnet import CONVOLUTIONS, DENSE, MEAN, STANDARD_DEVIATION

SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
}


@pytest.fixture(scope="module")
def state():
    """Random weights of torchvision's shapes, under its names."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in SHAPES.items():
        scale = np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
        arrays[f"{name}.weight"] = rng.standard_normal(shape, dtype=np.float32) * scale
        arrays[f"{name}.bias"] = rng.standard_normal(shape[0], dtype=np.float32) / 10
    return arrays


def windows(x, size, stride):
    """All squares of `[channels, height, width]`: `[channels, rows, columns, size, size]`."""
    every = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return every[:, ::stride, ::stride]


def torch_features(image, state):
    """One image through the net as torchvision lays it out: channels first."""
    x = ((image / 255 - MEAN) / STANDARD_DEVIATION).transpose(2, 0, 1).astype(np.float32)
    for _, size, stride, padding, is_pooled, name in CONVOLUTIONS:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        x = np.tensordot(state[f"{name}.weight"], windows(x, size, stride), ((1, 2, 3), (0, 3, 4)))
        x = np.maximum(x + state[f"{name}.bias"][:, None, None], 0)
        if is_pooled:
            x = windows(x, 3, 2).max(axis=(3, 4))
    x = x.reshape(-1)
    for _, name in DENSE:
        x = np.maximum(state[f"{name}.weight"] @ x + state[f"{name}.bias"], 0)
    return x


@pytest.mark.slow
def test_features_are_those_of_torchvisions_net(rng, state, tmp_path):
    np.savez(tmp_path / "alexnet.npz", **state)
    image = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    backbone = build_backbone("alexnet", (224, 224, 3), weights=str(tmp_path / "alexnet.npz"))
    features = to_numpy(backbone(image[None]))[0]
    np.testing.assert_allclose(features, torch_features(image, state), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_smaller_images_are_brought_to_its_size():
    backbone = build_backbone("alexnet", (32, 32, 3))
    assert backbone.output_shape == (None, 4096)
    assert backbone.get_layer("features-0").output.shape == (None, 55, 55, 64)
