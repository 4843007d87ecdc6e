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
WEIGHTS_TEXT = """\
Rows of it read `efficientnet_lite0_imagenet.npz` from the folder that the command runs in. The
minutes are without those in which features are computed, some 5 on two cores.
"""
