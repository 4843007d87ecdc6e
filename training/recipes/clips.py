"""Clips: the product, residual and temporal network on the same frames."""

from __future__ import annotations

from typing import Any

from ..settings.run_config import RunConfig
from .recipe import Recipe
from .starting_points import FINE_TUNING

BITS = (12, 24, 48)
# Name -> title and settings. The first two see the average of a clip's frames.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "pqn": ("PQN of the average frame", {"num_segments": (1,)}),
    "rpqn": ("RPQN of the average frame", {"num_segments": (1,), "num_levels": 2}),
    "tpqn": ("TPQN, 4 segments", {"num_segments": (4,)}),
}
# A few hundred to a few thousand small clips, from random weights.
SMALL: dict[str, Any] = {"augment": True, "batch_size": 32, "embedding_dim": 128}
# What a few clips of many classes gain most by.
CLASSIFIED: dict[str, Any] = {
    "classification_weight": 1.0,
    "classified": "both",
    "label_smoothing": 0.1,
    "unit_codewords": False,
}
LARGE: dict[str, Any] = {
    **FINE_TUNING,
    "backbone": "ResNet50",
    "weights": "imagenet",
    "batch_size": 16,
    "epochs": 20,
}


def _rows(protocol: str, seeds: tuple[int, ...], settings: dict[str, Any]) -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"{name}-{bits}",
            network,
            RunConfig.plain(model="tpqn", protocol=protocol, bits=bits, **sizes, **settings),
            seeds=seeds,
        )
        for name, (network, sizes) in NETWORKS.items()
        for bits in BITS
    )


MOVING_DIGITS = _rows("moving-digits", (0, 1, 2), {**SMALL, "epochs": 8})
MSR_ACTION3D = _rows("msr-action3d", (0, 1, 2), {**SMALL, **CLASSIFIED, "epochs": 25})
UCF101 = _rows("ucf101-1", (0,), LARGE)
HMDB51 = _rows("hmdb51-1", (0,), LARGE)
