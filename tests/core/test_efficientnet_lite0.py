"""Laws of EfficientNet-Lite0: with its weights it computes what the published net does."""

import numpy as np
import pytest

from tests.core.backend import to_numpy
from tfpqn.models import build_backbone
from tfpqn.models.efficientnet_lite0 import EPSILON, STAGES

SHAPE = (33, 40, 3)


def array_shapes():
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
    for name, shape in array_shapes().items():
        made[name] = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape[1:]))
        if name.endswith(("running_var", "bn0.weight", "bn1.weight", "bn2.weight")):
            made[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return made


def convolve(x, kernel, stride, groups=1):
    """`[channels, height, width]` by a kernel in torch's layout, padded as TensorFlow's SAME."""
    size = kernel.shape[-1]
    pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:]]
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    every = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    every = every[:, ::stride, ::stride]
    if groups > 1:
        return np.einsum("chwij,cij->chw", every, kernel[:, 0])
    return np.einsum("chwij,ocij->ohw", every, kernel, optimize=True)


def reference_features(image, arrays):
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


def test_features_are_those_of_the_published_net(rng, arrays, tmp_path):
    np.savez(tmp_path / "lite0.npz", **arrays)
    backbone = build_backbone("efficientnet_lite0", SHAPE, weights=str(tmp_path / "lite0.npz"))
    image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    features = to_numpy(backbone(image[None]))[0]
    np.testing.assert_allclose(features, reference_features(image, arrays), rtol=1e-3, atol=1e-3)


def test_weights_of_other_shapes_or_missing_ones_are_refused_by_name(arrays, tmp_path):
    name = "_blocks.3._project_conv.weight"
    np.savez(tmp_path / "other.npz", **{**arrays, name: np.zeros((40, 9, 1, 1), "f4")})
    with pytest.raises(ValueError, match=r"of _blocks-3-_project_conv, .*Received: .*9, 40"):
        build_backbone("efficientnet_lite0", SHAPE, weights=str(tmp_path / "other.npz"))
    np.savez(tmp_path / "part.npz", **{name: np.zeros(3)})
    with pytest.raises(ValueError, match=r"part\.npz must hold the arrays"):
        build_backbone("efficientnet_lite0", SHAPE, weights=str(tmp_path / "part.npz"))


@pytest.mark.parametrize("name", ["alexnet", "efficientnet_lite0"])
def test_grey_images_and_weights_from_imagenet_are_refused(name):
    with pytest.raises(ValueError, match="takes images of 3 channels. Received: 1 channels"):
        build_backbone(name, (32, 32, 1))
    with pytest.raises(FileNotFoundError, match="imagenet"):
        build_backbone("efficientnet_lite0", SHAPE, weights="imagenet")
