"""EfficientNet-Lite0's weights as they are published, but random, and photos for it."""

from pathlib import Path

import keras
import numpy as np
from PIL import Image

from tests.training.tiny import make_splits
from tfpqn.models.efficientnet_lite0 import efficientnet_lite0


def write_weights(path: Path) -> Path:
    """An `.npz` of arrays with torch's names and axes."""
    inputs = keras.Input((32, 32, 3))
    arrays: dict[str, np.ndarray] = {}
    for layer in keras.Model(inputs, efficientnet_lite0(inputs)).layers:
        names = ["weight", "bias", "running_mean", "running_var"]
        for name, values in zip(names, layer.get_weights(), strict=False):
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            axes = (2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)
            values = values.transpose(axes) if values.ndim == 4 else values
            arrays[f"{layer.name.removeprefix('net').replace('-', '.')}.{name}"] = values
    np.savez(path, **arrays)
    return path


def write_photos(folder: Path) -> Path:
    """Noisy pictures of four labels, a subfolder each."""
    images = make_splits().train
    for row, label in enumerate(images.labels):
        path = folder / images.label_names[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.repeat(np.repeat(images.images[row], 4, axis=0), 4, axis=1)
        Image.fromarray(pixels[..., 0]).convert("RGB").save(path)
    return folder
