"""Keras layers that quantize embeddings to codes, and one that normalizes batches."""

from tfpqn.layers.product_quantization import ProductQuantization as ProductQuantization
from tfpqn.layers.quantizer import Quantization as Quantization
from tfpqn.layers.quantizer import Quantizer as Quantizer
from tfpqn.layers.residual_product_quantization import (
    ResidualProductQuantization as ResidualProductQuantization,
)
from tfpqn.layers.temporal_product_quantization import (
    TemporalProductQuantization as TemporalProductQuantization,
)
