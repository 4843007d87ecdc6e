"""The labels of training data, before a backend sees them."""

from __future__ import annotations

import sys
import types
from typing import Any

import keras
import numpy as np

from tfpqn.ops import number_labels


class ModelOfAnyLabels(keras.Model):
    """A model whose labels may be integers of any size, on every backend."""

    def number_data(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Data as Keras takes it, with labels by `number_labels`."""
        return number_data(x, y)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any
    ) -> Any:
        x, y = self.number_data(x, y)
        if validation_data is not None:
            kwargs["validation_data"] = number_batch(validation_data)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(*self.number_data(x, y), *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().train_on_batch(*self.number_data(x, y), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().test_on_batch(*self.number_data(x, y), *args, **kwargs)


def number_data(x: Any, y: Any) -> tuple[Any, Any]:
    """Data as Keras takes it, with labels by `number_labels`.

    Labels of a batch are compared with one another alone, so those of a stream are numbered batch
    by batch. JAX needs that; TensorFlow and torch hold 64 bits.

    Args:
        x: Images, or a generator or `tf.data.Dataset` of batches.
        y: Labels; None if `x` is a stream of batches.
    """
    if y is not None:
        return x, number_labels(y)
    if keras.backend.backend() == "jax":
        if isinstance(x, types.GeneratorType):
            return (number_batch(batch) for batch in x), None
        if hasattr(x, "element_spec"):
            return x.map(_number_tensors), None
    return x, None


def number_batch(batch: Any) -> Any:
    """The same of `(images, labels)`, `(images, labels, sample_weights)` or a stream alone."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    x, y = number_data(x, y)
    return x if y is None else keras.utils.pack_x_y_sample_weight(x, y, weights)


def _number_tensors(images: Any, labels: Any = None, *weights: Any) -> tuple[Any, ...]:
    """What `number_labels` does, on TensorFlow's tensors."""
    if labels is None:
        return (images,)
    if labels.dtype.name != "int64" or labels.shape.rank != 1:
        return (images, labels, *weights)
    # A dataset of TensorFlow's has imported it; this package need not.
    tf = sys.modules["tensorflow"]
    limits = np.iinfo(np.int32)
    fits = tf.reduce_all((labels >= limits.min) & (labels <= limits.max))
    numbered = tf.where(fits, tf.cast(labels, tf.int32), tf.unique(labels).idx)
    return (images, numbered, *weights)
