"""Settings that rows of several tables have in common."""

from __future__ import annotations

from typing import Any

from ..run_config import RunConfig

# What a row leaves unsaid: the method by itself. Records name every setting, so a change of the
# defaults of `RunConfig` must not reach them.
PLAIN: dict[str, Any] = {
    "residuals": "embeddings",
    "unit_codewords": True,
    "loss_scale": 4.0,
    "classification_weight": 0.0,
    "classified": "quantized",
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "warmup_epochs": 0.0,
    "augment": False,
    "max_shift": 2,
    "samples_per_class": 0,
}
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


def plain_config(**settings: Any) -> RunConfig:
    """The settings of a run that are `PLAIN` but for those given."""
    return RunConfig(**{**PLAIN, **settings})
