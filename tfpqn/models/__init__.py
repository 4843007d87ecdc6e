"""The network and its backbones."""

from tfpqn.models.backbones import backbone_names as backbone_names
from tfpqn.models.backbones import build_backbone as build_backbone
from tfpqn.models.backbones import mirrored as mirrored
from tfpqn.models.product_quantization_network import (
    ProductQuantizationNetwork as ProductQuantizationNetwork,
)
