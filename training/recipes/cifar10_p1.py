"""CIFAR-10 with small nets, trained on all training images."""

from __future__ import annotations

from typing import Any

from .recipe import Recipe
from .small_images import embedding_row, mirrored_row, tuned_rows

PROTOCOL = "cifar10-full"
BITS = (12, 24, 36, 48)
PQN_PUBLISHED = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}
# Backbone -> settings of the embedding, and in which its tuning differs.
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv3": (
        {"epochs": 100, "cutout": 8},
        {"epochs": 12, "learning_rate": 0.02},
    ),
    "resnet9": (
        {"epochs": 15, "cutout": 8},
        {"epochs": 3, "learning_rate": 0.02},
    ),
}
# Fewer codewords in all share the images between them more softly.
PQN_SIZES: dict[int, dict[str, Any]] = {12: {"alpha": 3.0}}
# As many as leave each level some hundred codewords, and a search no more positions than PQN's.
RPQN_SIZES: dict[int, dict[str, Any]] = {
    12: {"num_levels": 2, "alpha": 3.0, "beam_size": 16},
    24: {"num_levels": 3},
    36: {"num_levels": 4},
    48: {"num_levels": 4},
}


def _start(backbone: str, prefix: str = "") -> Recipe:
    schedule, _ = SCHEDULES[backbone]
    return embedding_row(prefix, {"protocol": PROTOCOL, "backbone": backbone, **schedule})


def _residual_rows(start: Recipe, title: str, bits_of_rows: tuple[int, ...]) -> tuple[Recipe, ...]:
    _, tuning = SCHEDULES[start.config.model.backbone]
    settings = {**tuning, "model": "rpqn"}
    return tuned_rows(start, f"RPQN, {title}", bits_of_rows, settings, sizes=RPQN_SIZES)


EMBEDDING, RESNET9 = _start("conv3"), _start("resnet9", "resnet9-")
TUNING = SCHEDULES["conv3"][1]
TITLE = "PQN, 3-conv net"
PQN_ROWS = tuned_rows(EMBEDDING, TITLE, BITS, TUNING, sizes=PQN_SIZES, published=PQN_PUBLISHED)
RESNET9_ROWS = _residual_rows(RESNET9, "ResNet-9", BITS[1:])
CIFAR10_P1 = (
    EMBEDDING,
    *PQN_ROWS,
    mirrored_row(PQN_ROWS[BITS.index(24)]),
    *_residual_rows(EMBEDDING, "3-conv net", BITS),
    RESNET9,
    *RESNET9_ROWS,
    mirrored_row(RESNET9_ROWS[0]),
)
