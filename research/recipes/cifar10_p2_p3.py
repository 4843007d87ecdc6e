"""CIFAR-10 with 10,000 queries, and with 5,000 labelled images."""

from __future__ import annotations

from typing import Any

from research.recipes.fine_tuning import HEAD, LITE0
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.cifar10_p1 import SCHEDULES
from tfpqn.training.recipes.small_images import embedding_row, tuned_rows

P2_BITS = (16, 24, 36, 48)
P3_BITS = (12, 24, 32, 48)
# Of the pretrained net, whose ten tight groups need few bits: one codebook at these.
SHORTEST_BITS = (4, 6, 8, 10)
ONE_CODEBOOK: dict[int, dict[str, Any]] = {bits: {"num_subspaces": 1} for bits in SHORTEST_BITS}
PRETRAINED_TEXT = """\
EfficientNet-Lite0 sees the images brought to 96 x 96 pixels, and reads its ImageNet weights from
`efficientnet_lite0_imagenet.npz` in the folder that the command runs in. `lite0-embedding` tunes
the last half of its layers; the rows that start from it freeze them too, and train on features that
are computed once.
"""


def _rows(
    protocol: str,
    bits_of_rows: tuple[int, ...],
    schedules: dict[str, tuple[dict[str, Any], dict[str, Any]]],
    lite0: dict[str, Any],
    lite0_bits: tuple[int, ...],
) -> tuple[Recipe, ...]:
    """Both small nets from nothing, and the pretrained one, each tuned from an embedding.

    Args:
        protocol: Name of the protocol.
        bits_of_rows: Bits of each row from nothing.
        schedules: Backbone -> settings of the embedding, and in which its tuning differs.
        lite0: Settings of the pretrained net's embedding.
        lite0_bits: Bits of each of its rows.
    """
    rows: list[Recipe] = []
    for backbone, title in (("conv3", "3-conv net"), ("resnet9", "ResNet-9")):
        schedule, tuning = schedules[backbone]
        settings = {"protocol": protocol, "backbone": backbone, **schedule}
        start = embedding_row(f"{backbone}-", settings)
        rows += [start, *tuned_rows(start, f"PQN, {title}", bits_of_rows, tuning)]
    start = embedding_row("lite0-", {"protocol": protocol, **LITE0, **lite0})
    title = "PQN, EfficientNet-Lite0, ImageNet weights"
    return (*rows, start, *tuned_rows(start, title, lite0_bits, HEAD, sizes=ONE_CODEBOOK))


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
    "With an AlexNet trained on ImageNet before, the paper reports .947, .947, .946 and .947 at\n"
    "16, 24, 36 and 48 bits, and .945 at 4; DPQ (Klein and Wolf, CVPR 2019) .951 at 48. The small\n"
    f"nets start from nothing.\n{PRETRAINED_TEXT}",
    ("cifar10-10kq",),
    _rows("cifar10-10kq", P2_BITS, SCHEDULES, {"epochs": 2}, (*SHORTEST_BITS, *P2_BITS)),
)

CIFAR10_P3 = Table(
    "cifar10-p3",
    "CIFAR-10, 5,000 images to learn from, 54,000 to search",
    "Reported with an AlexNet trained on ImageNet before, at 48 bits: DFH .844, GreedyHash .822.\n"
    f"The small nets start from nothing.\n{PRETRAINED_TEXT}",
    ("cifar10-5k",),
    _rows("cifar10-5k", P3_BITS, FEW_IMAGES, {"epochs": 12}, P3_BITS),
)
