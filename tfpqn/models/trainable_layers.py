"""Which layers of a network learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
from keras import layers


def freeze_first_layers(backbone: keras.Model, fine_tune: float) -> None:
    """Let the last layers of a backbone learn, and no others.

    A layer that does not learn is as in inference: its batch normalisation keeps its statistics.

    Args:
        backbone: Its layers are in the order in which data passes them.
        fine_tune: Share of its layers with weights that learn, of which there is one at least.
    """
    parts = [layer for layer in flatten_layers(backbone) if not isinstance(layer, keras.Model)]
    parts = [layer for layer in parts if layer.weights]
    for layer in parts[: len(parts) - max(1, round(fine_tune * len(parts)))]:
        layer.trainable = False


def read_trainable(parts: Iterable[layers.Layer]) -> list[bool]:
    """`trainable` of each layer."""
    return [layer.trainable for layer in parts]


def set_trainable(parts: Iterable[layers.Layer], flags: Sequence[bool]) -> None:
    """Give back what `read_trainable` has read: not every model's configuration holds it."""
    for layer, is_trainable in zip(parts, flags, strict=False):
        layer.trainable = is_trainable


def flatten_layers(layer: layers.Layer | None) -> Iterator[layers.Layer]:
    """A layer, and of a model all layers after it: what a model is given, its layers are given."""
    if layer is None:
        return
    yield layer
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from flatten_layers(inner)
