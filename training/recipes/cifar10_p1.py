"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from typing import Any

from .recipe import Recipe
from .small_images import embedding_row, tuned_rows

PROTOCOL = "cifar10-full"
BITS = (12, 24, 36, 48)
PQN_PUBLISHED = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}
# Backbone -> settings of the embedding, and in which its tuning differs.
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv3": (
        {"epochs": 100, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 12, "learning_rate": 0.02},
    ),
    "resnet9": (
        {"epochs": 15, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 3, "learning_rate": 0.02},
    ),
}
# Fewer codewords in all share the images between them more softly.
PQN_SIZES: dict[int, dict[str, Any]] = {12: {"alpha": 3.0}}
RESIDUAL: dict[str, Any] = {"model": "rpqn"}
# As many as leave each level some hundred codewords, and a search no more positions than PQN's.
RPQN_SIZES: dict[int, dict[str, Any]] = {
    12: {"num_levels": 2, "alpha": 3.0, "beam_size": 16},
    24: {"num_levels": 3},
    36: {"num_levels": 4},
    48: {"num_levels": 4},
}


def _rows(backbone: str, title: str, prefix: str = "") -> tuple[Recipe, ...]:
    schedule, tuning = SCHEDULES[backbone]
    published = PQN_PUBLISHED if backbone == "conv3" else None
    start = embedding_row(prefix, {"protocol": PROTOCOL, "backbone": backbone, **schedule})
    residual = {**tuning, **RESIDUAL}
    return (
        start,
        *tuned_rows(start, f"PQN, {title}", BITS, tuning, sizes=PQN_SIZES, published=published),
        *tuned_rows(start, f"RPQN, {title}", BITS, residual, sizes=RPQN_SIZES),
    )


CIFAR10_P1 = (*_rows("conv3", "3-conv net"), *_rows("resnet9", "ResNet-9", "resnet9-"))
