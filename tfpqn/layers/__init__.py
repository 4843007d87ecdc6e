"""Keras layers that quantize embeddings to codes."""

from tfpqn.layers.product_quantization import ProductQuantization as ProductQuantization
from tfpqn.layers.quantizer import Quantization as Quantization
from tfpqn.layers.quantizer import Quantizer as Quantizer

__all__ = ["ProductQuantization", "Quantization", "Quantizer"]
