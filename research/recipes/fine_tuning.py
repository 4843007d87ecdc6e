"""Nets that saw ImageNet are tuned gently, and not for long."""

from __future__ import annotations

from typing import Any

from tfpqn.training.recipes.small_images import FROM_NOTHING

FINE_TUNING: dict[str, Any] = {
    **FROM_NOTHING,
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "batch_size": 64,
    "epochs": 10,
}
# Small images are enlarged: the weights are those of photos.
PRETRAINED: dict[str, Any] = {
    "model": "pqn",
    "backbone": "efficientnet_lite0",
    "weights": "efficientnet_lite0_imagenet.npz",
    "image_size": 128,
}
# All layers learn, at the size that two cores have time for.
TUNED: dict[str, Any] = {
    **FINE_TUNING,
    **PRETRAINED,
    "image_size": 96,
    "freeze_backbone": False,
    "scale_features": True,
    "dropout": 0.2,
    "cutout": 8,
    "learning_rate": 0.02,
}
# What follows with its layers frozen.
HEAD: dict[str, Any] = {
    "freeze_backbone": True,
    "fine_tune": None,
    "cutout": 0,
    "batch_size": 128,
}
WEIGHTS_TEXT = """\
The rows of EfficientNet-Lite0 read `efficientnet_lite0_imagenet.npz` from the folder that the
command runs in. Where its layers are frozen, features are computed once: in some 5 minutes on two
cores at 128 x 128 pixels, 10 at 224 x 224. The minutes are without these.
"""
