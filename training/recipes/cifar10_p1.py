"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from typing import Any

from ..run_config import RunConfig
from .recipe import Recipe, Table
from .settings import FROM_NOTHING

BITS = (12, 24, 36, 48)
PQN_PUBLISHED = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}
TEXT = """\
The 3-conv net with the published layer sizes, and batch normalisation; shifts and mirrored images,
SGD, and a classifier of the quantized items beside the triplet loss, which are ours. "Embedding,
then k-means PQ" is the same network trained without a quantizer, coded afterwards. `cifar10-full`
is the protocol of the paper as far as it is known; the other two are what others took for it:
`cifar10-test` ranks the test images against themselves, `cifar10-train` searches the training set.
"""
P1: dict[str, Any] = {**FROM_NOTHING, "protocol": "cifar10-full"}
# What each backbone needs to learn an embedding from nothing.
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "conv3": {"epochs": 50, "cutout": 8},
    "resnet20": {"epochs": 20},
}


def _rows(backbone: str, title: str, prefix: str = "") -> tuple[Recipe, ...]:
    settings = {**P1, "backbone": backbone, **EMBEDDINGS[backbone]}
    embedding = Recipe(f"{prefix}embedding", None, RunConfig(loss_sides="raw", **settings))
    return (embedding,)


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images, 3-conv net",
    TEXT,
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    (*_rows("conv3", "3-conv net"), *_rows("resnet20", "ResNet-20", "resnet20-")),
)
