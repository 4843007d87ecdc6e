"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from typing import Any

from ..settings.run_config import RunConfig
from .recipe import Recipe
from .small_images import embedding_row, rows_coded_afterwards, tuned_rows

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
# Two larger codebooks lose less at the shortest code.
PQ_SIZES: dict[int, dict[str, Any]] = {12: {"num_subspaces": 2}}
# Fewer codewords in all share the images between them more softly.
PQN_SIZES: dict[int, dict[str, Any]] = {12: {**PQ_SIZES[12], "alpha": 3.0}}
RESIDUAL: dict[str, Any] = {"model": "rpqn", "num_subspaces": 1}
# As many as leave each level some hundred codewords, and a search no more positions than PQN's.
RPQN_SIZES: dict[int, dict[str, Any]] = {
    12: {"num_levels": 2, "alpha": 3.0, "beam_size": 16},
    24: {"num_levels": 3},
    36: {"num_levels": 4},
    48: {"num_levels": 4},
}
# As far as the paper and the net that it took are known: no classifier, centring or sharpening.
PUBLISHED: dict[str, Any] = {
    "protocol": PROTOCOL,
    "embedding_dim": 500,
    "normalization": "local_response",
    "center_embeddings": False,
    "loss_form": "sigmoid",
    "loss_scale": 1.0,
    "augment": True,
    "max_shift": 0,
    "learning_rate": 1e-3,
    "epochs": 20,
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
        *rows_coded_afterwards(
            start, f"embedding, then k-means PQ, {title}", BITS, tuning, sizes=PQ_SIZES
        ),
    )


def _published_rows() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"published-{bits}",
            "PQN, the paper's net and loss, trained by us",
            RunConfig.plain(bits=bits, **PUBLISHED),
        )
        for bits in BITS
    )


CIFAR10_P1 = (
    *_rows("conv3", "3-conv net"),
    *_published_rows(),
    *_rows("resnet9", "ResNet-9", "resnet9-"),
)
