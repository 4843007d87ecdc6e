"""The loops that train: TensorFlow's own, and Keras' on any backend."""
