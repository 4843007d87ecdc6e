"""The loop for the Keras backend in use: TensorFlow's own, or that of Keras for the others."""

import keras

if keras.backend.backend() == "tensorflow":
    from .tensorflow_loop import fit as fit
else:
    from .keras_loop import fit as fit

__all__ = ["fit"]
