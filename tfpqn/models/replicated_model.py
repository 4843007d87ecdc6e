"""Training on several replicas of `tf.distribute`, with the results of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops

from tfpqn.models.trainable_layers import flatten_layers


class ReplicatedModel(keras.Model):
    """A model that several replicas train as one would, and of which one answers.

    Build and compile it in the scope of a `tf.distribute` strategy, as any Keras model.
    """

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        strategy = _strategy_of(self)
        if strategy and strategy.num_replicas_in_sync > len(strategy.extended.worker_devices):
            raise ValueError(
                "`fit` of Keras must have all replicas in one process; tfpqn.training.fit trains "
                f"on several workers. Received: {type(strategy).__name__} of "
                f"{strategy.num_replicas_in_sync} replicas"
            )
        with synchronized_normalization(self):
            return super().fit(*args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        if _strategy_of(self) is None:
            return super().predict_on_batch(x)
        # Keras would let each replica compute all of it, and give all answers as one batch.
        return keras.tree.map_structure(ops.convert_to_numpy, self(x, training=False))


@contextlib.contextmanager
def synchronized_normalization(model: keras.Model) -> Iterator[None]:
    """Lets batch normalization of a model on several replicas see the batches of all.

    Not for good: Keras refuses a synchronized layer of a file on other backends, and it computes
    otherwise where there is one replica.
    """
    is_replicated = _strategy_of(model) is not None
    chosen = [
        layer
        for layer in flatten_layers(model)
        if is_replicated and isinstance(layer, layers.BatchNormalization) and not layer.synchronized
    ]
    for layer in chosen:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in chosen:
            layer.synchronized = False


def _strategy_of(model: keras.Model) -> Any:
    """The `tf.distribute` strategy of a model on several replicas; else None."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy if strategy and strategy.num_replicas_in_sync > 1 else None
