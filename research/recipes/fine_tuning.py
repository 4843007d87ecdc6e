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
PRETRAINED: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "weights": "efficientnet_lite0_imagenet.npz",
}
# Small images are enlarged: the weights are those of photos.
LITE0: dict[str, Any] = {
    **FINE_TUNING,
    **PRETRAINED,
    "image_size": 96,
    "fine_tune": 0.5,
    "scale_features": True,
    "dropout": 0.2,
    "max_shift": 2,
    "learning_rate": 0.02,
}
# What follows with its layers frozen.
HEAD: dict[str, Any] = {"freeze_backbone": True, "fine_tune": None, "epochs": 3, "batch_size": 128}
