"""Optimizer, quantizer and loss of a run's settings."""

from __future__ import annotations

import math
import random
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.layers import (
    ProductQuantization,
    Quantizer,
    ResidualProductQuantization,
    TemporalProductQuantization,
)
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.losses.asymmetric_triplet_loss import FORMS

# A RunConfig, whose file imports this one.
Settings = Any

MOMENTUM = 0.9


def build_optimizer(config: Settings, network: Any, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a network that takes so many steps in all."""
    warmup = round(config.warmup_epochs / max(config.num_epochs, 1) * steps)
    rise = {"warmup_target": config.learning_rate, "warmup_steps": warmup} if warmup else {}
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate, max(steps - warmup, 1), **rise
    )
    settings: dict[str, Any] = {"weight_decay": config.weight_decay or None}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, MOMENTUM, nesterov=True, **settings)
    else:
        optimizer = keras.optimizers.Adam(schedule, **settings)
    if config.weight_decay:
        kernels = [v for v in network.trainable_variables if v.path.endswith("kernel")]
        kept = {id(v) for v in kernels}
        others = [v for v in network.trainable_variables if id(v) not in kept]
        optimizer.exclude_from_weight_decay(var_list=others)
    return optimizer


def build_quantizer(config: Settings, num_codewords: int) -> Quantizer:
    """The quantizer, with codebooks of so many codewords."""
    levels, subspaces = config.num_levels, config.num_subspaces
    rest: dict[str, Any] = {"alpha": config.alpha, "unit_codewords": config.unit_codewords}
    if config.model == "pqn":
        return ProductQuantization(subspaces, num_codewords, **rest)
    if config.model == "rpqn":
        rest.update(beam_size=config.beam_size)
        return ResidualProductQuantization(levels, subspaces, num_codewords, **rest)
    return TemporalProductQuantization(
        config.num_segments,
        subspaces,
        num_codewords,
        levels,
        share_codebooks=config.share_codebooks,
        **rest,
    )


def build_loss(config: Settings) -> AsymmetricTripletLoss:
    """The triplet loss."""
    return AsymmetricTripletLoss(
        config.loss_form,
        config.loss_scale,
        config.loss_margin,
        hardness=config.loss_hardness,
        sides=config.loss_sides,
    )


def chance_loss(config: Settings, labels: np.ndarray) -> float:
    """The mean loss of a network that knows nothing: all its scores are equal, and all its logits.

    Args:
        config: Settings of the run, with nothing left open.
        labels: Of the training items, `[num_items]` or multi-hot `[num_items, num_labels]`.
    """
    form = FORMS[config.loss_form]
    triplets = float(ops.convert_to_numpy(form.value(ops.convert_to_tensor(config.loss_margin))))
    loss = config.loss_weight * triplets
    if labels.ndim == 1 and config.views == 1:
        _, counts = np.unique(labels, return_counts=True)
        if not config.samples_per_class:
            loss *= _share_with_positive(counts, config.batch_size)
        loss += config.classification_weight * math.log(len(counts))
    return loss


def _share_with_positive(counts: np.ndarray, batch_size: int) -> float:
    """Share of anchors for which a random batch holds another item of their label."""
    others = (counts - 1) / max(counts.sum() - 1, 1)
    return float(np.average(1.0 - (1.0 - others) ** (batch_size - 1), weights=counts))


def seed_keras(seed: int) -> None:
    """`keras.utils.set_random_seed`, without the import of TensorFlow on another backend.

    There Keras seeds weights and layers by Python's own generator.
    """
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    else:
        random.seed(seed)
        np.random.seed(seed)
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)
