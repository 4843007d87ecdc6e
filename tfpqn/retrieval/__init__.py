"""A retrieval layer for two-tower models: candidates as codes, inside a Keras model."""

from tfpqn.retrieval.quantized_retrieval import QuantizedRetrieval as QuantizedRetrieval
