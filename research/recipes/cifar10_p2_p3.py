"""CIFAR-10 with 10,000 queries, and with 5,000 labelled images."""

from __future__ import annotations

from typing import Any

from research.recipes.fine_tuning import FINE_TUNING
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.cifar10_p1 import SCHEDULES
from tfpqn.training.recipes.small_images import embedding_row, tuned_rows
from tfpqn.training.settings.run_config import RunConfig

# Backbone -> title and weights.
PRETRAINED = {
    "alexnet": ("AlexNet", "alexnet-imagenet.npz"),
    "VGG16": ("VGG16", "imagenet"),
    "ResNet50": ("ResNet50", "imagenet"),
}

P2_BITS = (16, 24, 36, 48)
P3_BITS = (12, 24, 32, 48)
PRETRAINED_TEXT = """\
Rows with ImageNet weights download them, or with an AlexNet read them from `alexnet-imagenet.npz`;
`tfpqn train --recipe ... --weights FILE` reads them from another file. An AlexNet sees the images
brought to 224 x 224 pixels, the others see them as they are.
"""


def _rows(
    protocol: str,
    bits_of_rows: tuple[int, ...],
    schedules: dict[str, tuple[dict[str, Any], dict[str, Any]]],
) -> tuple[Recipe, ...]:
    """Both small nets, each tuned from an embedding, and the pretrained ones.

    Args:
        protocol: Name of the protocol.
        bits_of_rows: Bits of each row.
        schedules: Backbone -> settings of the embedding, and in which its tuning differs.
    """
    rows: list[Recipe] = []
    for backbone, title in (("conv3", "3-conv net"), ("resnet9", "ResNet-9")):
        schedule, tuning = schedules[backbone]
        settings = {"protocol": protocol, "backbone": backbone, **schedule}
        start = embedding_row(f"{backbone}-", settings)
        rows += [start, *tuned_rows(start, f"PQN, {title}", bits_of_rows, tuning)]
    for backbone, (title, weights) in PRETRAINED.items():
        for bits in bits_of_rows:
            config = RunConfig.plain(
                protocol=protocol, bits=bits, backbone=backbone, weights=weights, **FINE_TUNING
            )
            name = f"{backbone.lower()}-imagenet-{bits}"
            rows.append(Recipe(name, f"PQN, {title}, ImageNet weights", config))
    return tuple(rows)


# An epoch has a tenth of the steps.
FEW_IMAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv3": (
        {"epochs": 200, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 50, "learning_rate": 0.02},
    ),
    "resnet9": (
        {"epochs": 60, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 15, "learning_rate": 0.02},
    ),
}

CIFAR10_P2 = Table(
    "cifar10-p2",
    "CIFAR-10, 50,000 images to learn from and to search, 10,000 queries",
    "The paper reports .947, .947, .946 and .947 at 16, 24, 36 and 48 bits with an AlexNet\n"
    f"trained on ImageNet before; these rows start from nothing.\n{PRETRAINED_TEXT}",
    ("cifar10-10kq",),
    _rows("cifar10-10kq", P2_BITS, SCHEDULES),
)

CIFAR10_P3 = Table(
    "cifar10-p3",
    "CIFAR-10, 5,000 images to learn from, 54,000 to search",
    "Reported with an AlexNet trained on ImageNet before, at 48 bits: DFH .844, GreedyHash .822.\n"
    f"These rows start from nothing.\n{PRETRAINED_TEXT}",
    ("cifar10-5k",),
    _rows("cifar10-5k", P3_BITS, FEW_IMAGES),
)
