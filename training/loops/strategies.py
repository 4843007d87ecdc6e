"""Strategies of `tf.distribute`, as the command line names them."""

from __future__ import annotations

import os
from typing import Any

import keras


def open_strategy(name: str | None) -> Any:
    """A strategy: `mirrored`, over the GPUs of this machine, or `workers`, those of TF_CONFIG.

    To be called before TensorFlow computes anything; with `workers` it waits for all of them.

    Raises:
        ValueError: There is no TF_CONFIG for workers, or Keras' backend is not TensorFlow.
    """
    if name is None:
        return None
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "distribute needs Keras' backend to be TensorFlow. "
            f"Received: {name!r} with {keras.backend.backend()!r}"
        )
    import tensorflow as tf

    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            "distribute='workers' needs TF_CONFIG, a JSON object with the addresses of all workers "
            "and the number of this one (docs/scale.md). Received: none"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()
