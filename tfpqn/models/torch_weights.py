"""Weights of other libraries' nets, from an `.npz` of arrays in torch's layout."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tfpqn.files.npz import read_npz

_BEFORE_UNDERSCORE = "net"


def layer_name(name: str) -> str:
    """The name of the layer that holds torch's arrays of a name.

    It takes no dot, and TensorFlow's graphs none that begins with an underscore.
    """
    return (_BEFORE_UNDERSCORE if name.startswith("_") else "") + name.replace(".", "-")


def load_torch_weights(backbone: keras.Model, path: str) -> None:
    """Give each layer of a net its arrays, by the names that `layer_name` has made.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no `.npz` of plain arrays, or has other arrays.
    """
    own = [layer for layer in backbone.layers if layer.weights]
    names = {layer.name: _array_names(layer) for layer in own}
    arrays = read_npz(path, [name for several in names.values() for name in several])
    for layer in own:
        first, *others = (arrays[name] for name in names[layer.name])
        if first.ndim in _KERNEL_AXES:
            is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
            first = first.transpose((2, 3, 0, 1) if is_depthwise else _KERNEL_AXES[first.ndim])
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [first.shape, *(array.shape for array in others)]
        if received != expected:
            raise ValueError(
                f"{path} must hold the weights of {backbone.name}: of {_file_name(layer)}, with "
                f"their axes as in Keras, {expected}. Received: {received}"
            )
        layer.set_weights([first, *others])


# Rank of a kernel -> its axes as Keras has them, which in torch begin with outputs and inputs.
_KERNEL_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


def _file_name(layer: Any) -> str:
    """What a layer is called in the file."""
    return str(layer.name).removeprefix(_BEFORE_UNDERSCORE).replace("-", ".")


def _array_names(layer: Any) -> list[str]:
    """Names of a layer's arrays in the file, in the order of its weights."""
    parts = ["weight", "bias"]
    if isinstance(layer, layers.BatchNormalization):
        parts += ["running_mean", "running_var"]
    name = _file_name(layer)
    return [f"{name}.{part}" for part in parts[: len(layer.weights)]]
