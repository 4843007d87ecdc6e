"""A linear classifier that trains beside a network's own loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any

# What a classifier may be given -> the network's outputs that it stands for.
CLASSIFIED = {
    "quantized": ("quantized",),
    "embeddings": ("embeddings",),
    "both": ("embeddings", "quantized"),
}


class Classifier(layers.Dense):
    """Logits `[batch, num_classes]` of a network's items, and their loss.

    The arguments are those of `ProductQuantizationNetwork`.
    """

    def __init__(
        self,
        num_classes: int,
        classified: str = "quantized",
        loss_weight: float = 1.0,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2. Received: {num_classes}")
        if classified not in CLASSIFIED:
            raise ValueError(
                f"classified must be one of {list(CLASSIFIED)}. Received: {classified!r}"
            )
        if not 0 <= loss_weight < float("inf"):
            raise ValueError(
                f"classification_weight must be finite and at least 0. Received: {loss_weight}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1). Received: {label_smoothing}")
        super().__init__(num_classes, **kwargs)
        self.sides = CLASSIFIED[classified]
        self.loss_weight = loss_weight
        self.cross_entropy = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )

    def require_classes(self, labels: Any) -> None:
        """Raises ValueError where an array or list of labels `[batch]` names no classes."""
        if not isinstance(labels, np.ndarray | list):
            return
        numbers = np.asarray(labels)
        is_flat = numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "iuf"
        if is_flat and (numbers.min() < 0 or numbers.max() >= self.units):
            raise ValueError(
                f"A classifier takes labels from 0 to below num_classes={self.units}. "
                f"Received: labels from {numbers.min()} to {numbers.max()}"
            )

    def classify(self, outputs: dict[str, Tensor]) -> Tensor:
        """Logits of a network's outputs, of the quantized items if it classifies both."""
        return self(outputs[self.sides[-1]])

    def loss(
        self, labels: Tensor, outputs: dict[str, Tensor], sample_weight: Tensor = None
    ) -> Tensor:
        """Weighted cross-entropy of integer labels `[batch]`.

        Raises:
            ValueError: The labels have another shape.
        """
        if len(labels.shape) != 1:
            raise ValueError(
                "A classifier needs integer labels [batch]. Received: labels of shape "
                f"{tuple(labels.shape)}"
            )
        losses = []
        for side in self.sides:
            logits = self(outputs[side])
            targets = ops.one_hot(labels, self.units, dtype=logits.dtype)
            losses.append(self.cross_entropy(targets, logits, sample_weight))
        return self.loss_weight / len(losses) * sum(losses)
