"""Clips: the product, residual and temporal network on the same frames."""

from __future__ import annotations

from typing import Any

from ..settings.run_config import RunConfig
from .recipe import Recipe, Table
from .settings import FINE_TUNING

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


def _table(
    protocol: str, title: str, text: str, seeds: tuple[int, ...], settings: dict[str, Any]
) -> Table:
    def settings_of(sizes: dict[str, Any]) -> dict[str, Any]:
        # Codewords of their own length over several levels are those of reconstructions.
        has_own_lengths = not settings.get("unit_codewords", True) and "num_levels" in sizes
        return {**settings, "residuals": "reconstructions"} if has_own_lengths else settings

    rows = tuple(
        Recipe(
            f"{name}-{bits}",
            network,
            RunConfig.plain(
                model="tpqn", protocol=protocol, bits=bits, **sizes, **settings_of(sizes)
            ),
            seeds=seeds,
        )
        for name, (network, sizes) in NETWORKS.items()
        for bits in BITS
    )
    return Table(protocol, title, text, (protocol,), rows)


MOVING_DIGITS = _table(
    "moving-digits",
    "Clips of moving digits",
    "Twelve motions; a frame alone, or the average of all, tells few of them apart.\n",
    (0, 1, 2),
    {**SMALL, "epochs": 8},
)
MSR_ACTION3D = _table(
    "msr-action3d",
    "MSR-Action3D",
    "Depth clips of 20 actions, 283 to learn from, searched by other people's. A classifier of\n"
    "embeddings and quantized items stands beside the triplet loss, and codewords have their own\n"
    "length.\n",
    (0, 1, 2),
    {**SMALL, **CLASSIFIED, "epochs": 25},
)
UCF101 = _table(
    "ucf101-1",
    "UCF-101, split 1",
    "From a backbone trained on ImageNet.\n",
    (0,),
    LARGE,
)
HMDB51 = _table(
    "hmdb51-1",
    "HMDB-51, split 1",
    "From a backbone trained on ImageNet.\n",
    (0,),
    LARGE,
)
