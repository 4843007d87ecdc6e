"""Batch normalization in one step of TensorFlow, where Keras takes a dozen."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

Tensor = Any


# Of the name that Keras's has, so that weights have the paths that they had with it.
@keras.saving.register_keras_serializable(package="tfpqn")
class BatchNormalization(layers.BatchNormalization):
    """Keras's layer, faster for `[batch, height, width, channels]` on TensorFlow with CPUs alone.

    It has the same weights and, but for rounding, the same results; with `jit_compile=True` the
    variance of a batch is less exact. All else is left to Keras: other backends, devices, ranks and
    dtypes of variables, masks, and statistics of several replicas.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        if mask is not None or not self._is_fused(inputs):
            return super().call(inputs, training=training, mask=mask)
        # The core asks for it where Keras has no word for it.
        import tensorflow as tf

        learns = bool(training and self.trainable)
        features = ops.cast(inputs, "float32")
        none = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=features,
            scale=self.gamma,
            offset=self.beta,
            mean=none if learns else self.moving_mean,
            variance=none if learns else self.moving_variance,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            # TensorFlow divides by one less, and Keras does not.
            count = ops.cast(ops.prod(ops.shape(features)[:-1]), "float32")
            variance *= (count - 1) / count
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _is_fused(self, inputs: Tensor) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.center
            and self.scale
            and not (self.synchronized or getattr(self, "renorm", False))
            and self.variable_dtype == "float32"
            and keras.backend.result_type(inputs.dtype, "float32") == "float32"
            and _is_tensorflow_on_cpus()
        )


def _is_tensorflow_on_cpus() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    # Elsewhere Keras compiles by XLA, which has no need of it.
    return all(device.device_type == "CPU" for device in tf.config.list_physical_devices())
