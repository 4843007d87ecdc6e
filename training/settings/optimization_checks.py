"""Refusals of settings of losses, optimizer and augmentation."""

from __future__ import annotations

from tfpqn.models.backbones import NORMALIZATIONS
from tfpqn.models.classifier import CLASSIFIED

from .building import Settings

OPTIMIZERS = ("adam", "sgd")
# Of half precision the one that needs no scaled loss.
PRECISIONS = ("float32", "mixed_bfloat16")


def check_optimization(config: Settings) -> None:
    """Refuse settings of losses, optimizer and augmentation that are out of range.

    Raises:
        ValueError: One is, or two do not fit each other.
    """
    if not config.learning_rate > 0:
        raise ValueError(f"learning_rate must be positive. Received: {config.learning_rate}")
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {list(OPTIMIZERS)}. Received: {config.optimizer!r}"
        )
    if config.precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {list(PRECISIONS)}. Received: {config.precision!r}"
        )
    classification = config.classification_weight
    weights = (config.loss_weight, 1.0 if classification is None else classification)
    if not (min(weights) >= 0 and 0 < sum(weights) < float("inf")):
        raise ValueError(
            "loss_weight and classification_weight must be finite, at least 0, and not both 0. "
            f"Received: {weights[0]}, {weights[1]}"
        )
    if config.classified not in CLASSIFIED:
        raise ValueError(
            f"classified must be one of {list(CLASSIFIED)}. Received: {config.classified!r}"
        )
    if not 0 <= config.weight_decay < 1:
        raise ValueError(f"weight_decay must lie in [0, 1). Received: {config.weight_decay}")
    epochs = float("inf") if config.epochs is None else max(config.epochs, 1)
    if not 0 <= config.warmup_epochs < epochs:
        raise ValueError(
            f"warmup_epochs must lie in [0, {epochs}), the number of epochs. "
            f"Received: {config.warmup_epochs}"
        )
    if config.max_shift is not None and config.max_shift < 0:
        raise ValueError(f"max_shift must be at least 0. Received: {config.max_shift}")
    if not 0 < config.min_area <= 1 or config.min_area < 1 and not config.augment:
        raise ValueError(
            "min_area must lie in (0, 1], and be 1 without augment. "
            f"Received: min_area={config.min_area}, augment={config.augment}"
        )
    if config.cutout < 0 or config.cutout and not config.augment:
        raise ValueError(
            "cutout must be at least 0, and 0 without augment. "
            f"Received: cutout={config.cutout}, augment={config.augment}"
        )
    if not 0 <= config.color_jitter < 1 or config.color_jitter and not config.augment:
        raise ValueError(
            "color_jitter must lie in [0, 1), and be 0 without augment. "
            f"Received: color_jitter={config.color_jitter}, augment={config.augment}"
        )
    _check_views(config)
    samples = config.samples_per_class
    divides = samples >= 2 and not config.batch_size % samples and samples < config.batch_size
    if samples and (not divides or config.views > 1):
        raise ValueError(
            "samples_per_class must be 0, or at least 2 and divide batch_size into two or more, "
            f"and be 0 with several views. Received: samples_per_class={samples}, "
            f"batch_size={config.batch_size}, views={config.views}"
        )
    if config.normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {list(NORMALIZATIONS)}. "
            f"Received: {config.normalization!r}"
        )
    if config.normalization != "batch" and config.backbone != "conv3":
        raise ValueError(
            "normalization is for the backbone 'conv3'. "
            f"Received: {config.normalization!r}, backbone={config.backbone!r}"
        )


def _check_views(config: Settings) -> None:
    if (
        config.views < 1
        or config.batch_size % config.views
        or config.views > 1
        and not config.augment
    ):
        raise ValueError(
            "views must be at least 1 and divide batch_size, and be 1 without augment. "
            f"Received: views={config.views}, batch_size={config.batch_size}, "
            f"augment={config.augment}"
        )
    if config.views > 1 and config.classification_weight:
        raise ValueError(
            "views above 1 train without labels, and a classifier needs them. Received: "
            f"views={config.views}, classification_weight={config.classification_weight}"
        )
