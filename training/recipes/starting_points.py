"""Settings that rows of several tables have in common."""

from __future__ import annotations

from typing import Any

# Of images of 32 x 32 pixels, from random weights.
FROM_NOTHING: dict[str, Any] = {
    "augment": True,
    "max_shift": 4,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    # Taken away decoupled from the gradient: what 5e-4 in the loss is with a momentum of 0.9.
    "weight_decay": 5e-3,
    "warmup_epochs": 0.5,
    "classification_weight": 1.0,
    "label_smoothing": 0.1,
    "loss_scale": 2.0,
}
# Nets that saw ImageNet are tuned gently, and not for long.
FINE_TUNING: dict[str, Any] = {
    **FROM_NOTHING,
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "batch_size": 64,
    "epochs": 10,
}
