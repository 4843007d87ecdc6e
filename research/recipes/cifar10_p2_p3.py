"""CIFAR-10 with 10,000 queries, and with 5,000 labelled images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from research.recipes.fine_tuning import HEAD, PRETRAINED, TUNED, WEIGHTS_TEXT
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.cifar10_p1 import PQN_SIZES, SCHEDULES
from tfpqn.training.recipes.small_images import embedding_row, tuned_rows
from tfpqn.training.settings.run_config import RunConfig

P2_BITS = (16, 24, 36, 48)
P3_BITS = (12, 24, 32, 48)
SHORTEST_BITS = (4, 6, 8, 10)
TITLES = {"conv3": "PQN, 3-conv net", "resnet9": "PQN, ResNet-9"}
# Codebooks of the small nets, where these are not as many as `tfpqn train` takes.
SIZES: dict[int, dict[str, Any]] = {12: {"num_subspaces": 4}}


def _rows(
    protocol: str,
    bits_of_rows: tuple[int, ...],
    schedules: dict[str, tuple[dict[str, Any], dict[str, Any]]],
) -> tuple[Recipe, ...]:
    """Small nets from nothing, each tuned from an embedding.

    Args:
        protocol: Name of the protocol.
        bits_of_rows: Bits of each row.
        schedules: Backbone -> settings of the embedding, and in which its tuning differs.
    """
    rows: list[Recipe] = []
    for backbone, (schedule, tuning) in schedules.items():
        settings = {"protocol": protocol, "backbone": backbone, **schedule}
        start = embedding_row(f"{backbone}-", settings)
        rows += [start, *tuned_rows(start, TITLES[backbone], bits_of_rows, tuning, sizes=SIZES)]
    return tuple(rows)


def _pretrained_rows(
    protocol: str,
    bits_of_rows: tuple[int, ...],
    schedule: dict[str, Any],
    enlarged: dict[str, Any],
    head: dict[str, Any],
) -> tuple[Recipe, ...]:
    """One pretrained net, tuned for images of two sizes, and codes of its features.

    Args:
        protocol: Name of the protocol.
        bits_of_rows: Bits of each row.
        schedule: Of the first tuning, with images of 96 x 96 pixels.
        enlarged: Of the second, with 128 x 128 pixels.
        head: In which settings the rows with codes differ from the second.
    """
    settings = {"protocol": protocol, **TUNED}
    first = embedding_row("lite0-", {**settings, **schedule})
    second = embedding_row("lite0-128-", {**settings, "image_size": 128, **enlarged})
    second = replace(second, start=first.name)
    title = "PQN, EfficientNet-Lite0, ImageNet weights"
    return (
        first,
        second,
        *tuned_rows(second, title, bits_of_rows, {**HEAD, **head}, sizes=PQN_SIZES),
    )


def _frozen_rows() -> tuple[Recipe, ...]:
    """The defaults of `tfpqn train --weights`, on images that are enlarged."""
    settings = {"protocol": "cifar10-5k", **PRETRAINED, "epochs": 20, "batch_size": 64}
    settings["classification_weight"] = 1.0
    return tuple(
        Recipe(
            f"lite0-frozen-{bits}",
            "PQN, EfficientNet-Lite0 frozen, ImageNet weights",
            RunConfig.of(bits=bits, **settings),
            seeds=(0, 1, 2),
        )
        for bits in P3_BITS
    )


# An epoch has a tenth of the steps.
FEW_IMAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv3": (
        {"epochs": 200, "cutout": 8},
        {"epochs": 50, "learning_rate": 0.02},
    ),
    "resnet9": (
        {"epochs": 60, "cutout": 8},
        {"epochs": 15, "learning_rate": 0.02},
    ),
}

P2_TEXT = f"""\
With an AlexNet pretrained on ImageNet, PQN's paper reports .947, .947, .946 and .947 at 16, 24, 36
and 48 bits, and .945 at 4. DPQ (Klein and Wolf, CVPR 2019) has .951 at 48. ResNet-9 starts from
random weights. EfficientNet-Lite0 starts from ImageNet weights. `lite0-embedding` trains for 3
epochs on images of 96 x 96 pixels; the first eighth of its layers stays frozen.
`lite0-128-embedding` goes on for 4 epochs with all layers, on images of 128 x 128 pixels. Its rows
with codes train on the features of that net. Up to 10 bits they have one codebook, at 16 bits two,
and four from 24 bits on.
{WEIGHTS_TEXT}"""
P3_TEXT = f"""\
Reported with an AlexNet pretrained on ImageNet, at 48 bits: DFH .844, GreedyHash .822. The small
nets start from random weights. Frozen, EfficientNet-Lite0 sees images of 128 x 128 pixels; its
ImageNet weights stay as they are, and the rest trains on its features. `lite0-embedding` tunes all
its layers for 10 epochs on images of 96 x 96 pixels, `lite0-128-embedding` for 10 more on images of
128 x 128 pixels. The rows that start from it train on the features of that net. At 12 bits they
have two codebooks and an alpha of 3. With EfficientNet-Lite0 an item's code is the one nearest to
its soft item, not to its embedding (`--soft-codes`).
{WEIGHTS_TEXT}"""
CIFAR10_P2 = Table(
    "cifar10-p2",
    "CIFAR-10, 50,000 images to learn from and to search, 10,000 queries",
    P2_TEXT,
    ("cifar10-10kq",),
    (
        *_rows("cifar10-10kq", (24,), {"resnet9": SCHEDULES["resnet9"]}),
        *_pretrained_rows(
            "cifar10-10kq",
            (*SHORTEST_BITS, *P2_BITS),
            {"epochs": 3, "fine_tune": 0.88},
            {"epochs": 4},
            {"epochs": 3},
        ),
    ),
)

CIFAR10_P3 = Table(
    "cifar10-p3",
    "CIFAR-10, 5,000 images to learn from, 54,000 to search",
    P3_TEXT,
    ("cifar10-5k",),
    (
        *_rows("cifar10-5k", P3_BITS, FEW_IMAGES),
        *_frozen_rows(),
        *_pretrained_rows(
            "cifar10-5k",
            P3_BITS,
            {"epochs": 10},
            {"epochs": 10},
            {"epochs": 10, "soft_codes": True},
        ),
    ),
)
