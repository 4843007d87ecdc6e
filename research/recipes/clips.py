"""Clips: the product, residual and temporal network on the same frames."""

from __future__ import annotations

from typing import Any

import research.datasets.protocols  # noqa: F401
from research.recipes.fine_tuning import FINE_TUNING
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.settings.run_config import RunConfig

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
    "image_size": 112,
    "batch_size": 16,
    "epochs": 20,
}


def _table(
    name: str, title: str, text: str, seeds: tuple[int, ...], settings: dict[str, Any]
) -> Table:
    rows = tuple(
        Recipe(
            f"{network}-{bits}",
            group,
            RunConfig.plain(model="tpqn", protocol=name, bits=bits, **sizes, **settings),
            seeds=seeds,
        )
        for network, (group, sizes) in NETWORKS.items()
        for bits in BITS
    )
    return Table(name, title, text, (name,), rows)


CLIPS_OF_20_ACTIONS = """\
Depth clips of 20 actions, 283 to learn from, searched by other people's. A classifier of
embeddings and quantized items stands beside the triplet loss, and codewords have their own
length.
"""
FROM_IMAGENET = "From a backbone trained on ImageNet.\n"
CLIPS = (
    _table(
        "moving-digits",
        "Clips of moving digits",
        "Twelve motions; a frame alone, or the average of all, tells few of them apart.\n",
        (0, 1, 2),
        {**SMALL, "epochs": 8},
    ),
    _table(
        "msr-action3d",
        "MSR-Action3D",
        CLIPS_OF_20_ACTIONS,
        (0, 1, 2),
        {**SMALL, **CLASSIFIED, "epochs": 25},
    ),
    _table("ucf101-1", "UCF-101, split 1", FROM_IMAGENET, (0,), LARGE),
    _table("hmdb51-1", "HMDB-51, split 1", FROM_IMAGENET, (0,), LARGE),
)
