"""Backbones of KerasHub, from a preset: its name, or the folder that it was saved to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
from keras import layers

from tfpqn._extras import import_extra


def is_preset_folder(weights: str) -> bool:
    """Whether `backbone.save_to_preset` may have written this folder."""
    return Path(weights, "config.json").is_file()


def preset_image_size(preset: str | None) -> int | None:
    """Height of the images that a preset's image converter makes, if it says one.

    Raises:
        ImportError: KerasHub is not installed.
        ValueError: It is no preset of images.
    """
    size = _read_converter(preset).image_size
    return None if size is None else int(size[0])


def load_preset(preset: str | None, dtype: str | None) -> keras.Model:
    """A preset's model from pixels 0 .. 255, which it scales as its image converter does.

    Tokens, such as those of a vision transformer, are averaged.

    Raises:
        ImportError: KerasHub is not installed.
        ValueError: It is no preset of images.
    """
    converter = _read_converter(preset)
    options = {} if dtype is None else {"dtype": dtype}
    with _reading(preset):
        backbone = import_hub().models.Backbone.from_preset(preset, **options)
    outputs = backbone.output
    is_single = len(backbone.inputs) == 1 and isinstance(outputs, keras.KerasTensor)
    if not is_single or len(outputs.shape) not in (3, 4):
        raise ValueError(
            "The backbone of a preset must be from images to features "
            "[batch, height, width, num_features] or [batch, tokens, num_features]. "
            f"Received: {preset!r}, from {backbone.input_shape} to {backbone.output_shape}"
        )
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    images = keras.Input(backbone.input_shape[1:], name="images")
    features = backbone(layers.Rescaling(scale, offset)(images))
    if len(outputs.shape) == 3:
        features = layers.GlobalAveragePooling1D()(features)
    return keras.Model(images, features)


def _read_converter(preset: str | None) -> Any:
    hub = import_hub()
    with _reading(preset):
        return hub.layers.ImageConverter.from_preset(preset)


def import_hub() -> ModuleType:
    """KerasHub, or an ImportError that says how to install it."""
    return import_extra("keras_hub", "hub", "The backbone 'keras_hub' needs KerasHub")


@contextlib.contextmanager
def _reading(preset: str | None) -> Iterator[None]:
    """Whatever KerasHub raises at a preset becomes a sentence."""
    try:
        yield
    # Its loaders raise nearly every type, and those of the networks that they ask others.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            "The weights of 'keras_hub' must be a preset of an image backbone: a name, which is "
            "downloaded, or a folder of `backbone.save_to_preset` and "
            f"`image_converter.save_to_preset`. Received: {preset!r} ({reason})"
        ) from error
