"""Laws of AlexNet and EfficientNet-Lite0: with their weights they compute what the nets do."""

import numpy as np
import pytest

from tests.core.backend import to_numpy
from tfpqn.models import build_backbone
from tfpqn.models.alexnet import CONVOLUTIONS, DENSE, MEAN, STANDARD_DEVIATION
from tfpqn.models.efficientnet_lite0 import EPSILON, STAGES


def windows(x, size, stride):
    """All squares of `[channels, height, width]`: `[channels, rows, columns, size, size]`."""
    every = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return every[:, ::stride, ::stride]


def assert_features(name, image, arrays, expected, folder):
    """The backbone with weights from a file of these arrays gives the features of the image."""
    np.savez(folder / f"{name}.npz", **arrays)
    backbone = build_backbone(name, image.shape, weights=str(folder / f"{name}.npz"))
    features = to_numpy(backbone(image[None]))[0]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


# AlexNet

ALEXNET_SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
}


def draw_alexnet(rng):
    """Random weights of torchvision's shapes, under its names."""
    arrays = {}
    for name, shape in ALEXNET_SHAPES.items():
        scale = np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
        arrays[f"{name}.weight"] = rng.standard_normal(shape, dtype=np.float32) * scale
        arrays[f"{name}.bias"] = rng.standard_normal(shape[0], dtype=np.float32) / 10
    return arrays


def alexnet_features(image, arrays):
    """One image through the net as torchvision lays it out: channels first."""
    x = ((image / 255 - MEAN) / STANDARD_DEVIATION).transpose(2, 0, 1).astype(np.float32)
    for _, size, stride, padding, is_pooled, name in CONVOLUTIONS:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        x = np.tensordot(arrays[f"{name}.weight"], windows(x, size, stride), ((1, 2, 3), (0, 3, 4)))
        x = np.maximum(x + arrays[f"{name}.bias"][:, None, None], 0)
        if is_pooled:
            x = windows(x, 3, 2).max(axis=(3, 4))
    x = x.reshape(-1)
    for _, name in DENSE:
        x = np.maximum(arrays[f"{name}.weight"] @ x + arrays[f"{name}.bias"], 0)
    return x


@pytest.mark.slow
def test_features_are_those_of_torchvisions_alexnet(rng, tmp_path):
    arrays, image = draw_alexnet(rng), rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert_features("alexnet", image, arrays, alexnet_features(image, arrays), tmp_path)


@pytest.mark.slow
def test_smaller_images_are_brought_to_the_size_of_alexnet():
    backbone = build_backbone("alexnet", (32, 32, 3))
    assert backbone.output_shape == (None, 4096)
    assert backbone.get_layer("features-0").output.shape == (None, 55, 55, 64)


# EfficientNet-Lite0

SHAPE = (33, 40, 3)


def lite0_shapes():
    """The arrays of the file in torch's layout, spelled out block by block."""
    shapes = {"_conv_stem.weight": (32, 3, 3, 3), "_conv_head.weight": (1280, 320, 1, 1)}
    norms = {"_bn0": 32, "_bn1": 1280}
    channels, number = 32, 0
    for repeats, size, _, expansion, filters in STAGES:
        for _ in range(repeats):
            name, inner = f"_blocks.{number}.", channels * expansion
            if expansion > 1:
                shapes[f"{name}_expand_conv.weight"] = (inner, channels, 1, 1)
                norms[f"{name}_bn0"] = inner
            shapes[f"{name}_depthwise_conv.weight"] = (inner, 1, size, size)
            shapes[f"{name}_project_conv.weight"] = (filters, inner, 1, 1)
            norms |= {f"{name}_bn1": inner, f"{name}_bn2": filters}
            channels, number = filters, number + 1
    parts = ("weight", "bias", "running_mean", "running_var")
    return shapes | {f"{name}.{part}": (size,) for name, size in norms.items() for part in parts}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in lite0_shapes().items():
        made[name] = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape[1:]))
        if name.endswith(("running_var", "bn0.weight", "bn1.weight", "bn2.weight")):
            made[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return made


def convolve(x, kernel, stride, groups=1):
    """`[channels, height, width]` by a kernel in torch's layout, padded as TensorFlow's SAME."""
    size = kernel.shape[-1]
    pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:]]
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    if groups > 1:
        return np.einsum("chwij,cij->chw", windows(x, size, stride), kernel[:, 0])
    return np.einsum("chwij,ocij->ohw", windows(x, size, stride), kernel, optimize=True)


def lite0_features(image, arrays):
    def normalize(x, name):
        gamma, beta, mean, variance = (
            arrays[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta

    def relu6(x):
        return np.clip(x, 0, 6)

    x = ((image.astype(np.float64) - 127) / 128).transpose(2, 0, 1)
    x = relu6(normalize(convolve(x, arrays["_conv_stem.weight"], 2), "_bn0"))
    number = 0
    for repeats, _, stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            name, before = f"_blocks.{number}.", x
            if expansion > 1:
                x = convolve(x, arrays[f"{name}_expand_conv.weight"], 1)
                x = relu6(normalize(x, f"{name}_bn0"))
            step = 1 if repeat else stride
            x = convolve(x, arrays[f"{name}_depthwise_conv.weight"], step, groups=len(x))
            x = convolve(
                relu6(normalize(x, f"{name}_bn1")), arrays[f"{name}_project_conv.weight"], 1
            )
            x = normalize(x, f"{name}_bn2")
            x = x + before if x.shape == before.shape and step == 1 else x
            number += 1
    x = relu6(normalize(convolve(x, arrays["_conv_head.weight"], 1), "_bn1"))
    return x.mean(axis=(1, 2))


def test_features_are_those_of_the_published_lite0(rng, arrays, tmp_path):
    image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    expected = lite0_features(image, arrays)
    assert_features("efficientnet_lite0", image, arrays, expected, tmp_path)


@pytest.mark.slow
def test_weights_of_other_shapes_are_refused_by_name(arrays, tmp_path):
    name = "_blocks.3._project_conv.weight"
    np.savez(tmp_path / "other.npz", **{**arrays, name: np.zeros((40, 9, 1, 1), "f4")})
    with pytest.raises(ValueError, match=r"of _blocks.3._project_conv, .*Received: .*9, 40"):
        build_backbone("efficientnet_lite0", SHAPE, weights=str(tmp_path / "other.npz"))


@pytest.mark.parametrize("name", ["alexnet", "efficientnet_lite0"])
def test_grey_images_and_weights_from_imagenet_are_refused(name):
    with pytest.raises(ValueError, match="takes images of 3 channels. Received: 1 channels"):
        build_backbone(name, (32, 32, 1))
    with pytest.raises(FileNotFoundError, match="imagenet"):
        build_backbone("efficientnet_lite0", SHAPE, weights="imagenet")
