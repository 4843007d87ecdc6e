"""The labels of training data, before a backend sees them."""

from __future__ import annotations

from typing import Any

import keras

from tfpqn.ops import number_labels


class ModelOfAnyLabels(keras.Model):
    """A model whose labels may be arrays of integers of any size, on every backend."""

    def number(self, labels: Any) -> Any:
        """Labels by `number_labels`; None where the data is a stream of batches."""
        return None if labels is None else number_labels(labels)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any
    ) -> Any:
        if isinstance(validation_data, (tuple, list)):
            images, labels, *weights = validation_data
            validation_data = (images, self.number(labels), *weights)
        return super().fit(x, self.number(y), *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(x, self.number(y), *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().train_on_batch(x, self.number(y), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().test_on_batch(x, self.number(y), *args, **kwargs)
