"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from typing import Any

from ..run_config import RunConfig
from .recipe import Recipe, Table
from .settings import FROM_NOTHING

BITS = (12, 24, 36, 48)
PQN_PUBLISHED = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}
TEXT = """\
The 3-conv net has the published layer sizes, and batch normalisation; shifted, mirrored and cut
images, SGD, weight decay, and a classifier of embeddings and quantized items beside the triplet
loss are ours. "Published net and loss" has none of them. "Embedding, then k-means PQ" is the same
network and schedule trained without a quantizer, coded afterwards. `cifar10-full` is the protocol
of the paper as far as it is known; the other two are what others took for it: `cifar10-test` ranks
the test images against themselves, `cifar10-train` searches the training set.
"""
P1: dict[str, Any] = {**FROM_NOTHING, "protocol": "cifar10-full"}
SCHEDULES: dict[str, dict[str, Any]] = {
    "conv3": {"epochs": 50, "cutout": 8},
    "resnet20": {"epochs": 20},
}
# As far as the paper and the net that it took are known: no classifier, centring or sharpening.
PUBLISHED: dict[str, Any] = {
    "protocol": "cifar10-full",
    "embedding_dim": 500,
    "normalization": "local_response",
    "center_embeddings": False,
    "loss_form": "sigmoid",
    "loss_scale": 1.0,
    "augment": True,
    "max_shift": 0,
    "learning_rate": 1e-3,
    "epochs": 50,
}


def _rows(backbone: str, title: str, prefix: str = "") -> tuple[Recipe, ...]:
    settings = {**P1, "backbone": backbone, **SCHEDULES[backbone]}
    embedding = Recipe(f"{prefix}embedding", None, RunConfig(loss_sides="raw", **settings))
    pqn, rpqn, afterwards = [], [], []
    for bits in BITS:
        published = PQN_PUBLISHED[bits] if backbone == "conv3" else None
        config = RunConfig(bits=bits, classified="both", **settings)
        pqn.append(Recipe(f"{prefix}pqn-{bits}", f"PQN, {title}", config, published=published))
        config = RunConfig(bits=bits, model="rpqn", classified="both", **settings)
        rpqn.append(Recipe(f"{prefix}rpqn-{bits}", f"RPQN, {title}", config))
        config = RunConfig(bits=bits, **{**settings, "epochs": 0, "warmup_epochs": 0.0})
        name, group = f"{prefix}embedding-pq-{bits}", f"embedding, then k-means PQ, {title}"
        afterwards.append(Recipe(name, group, config, start=embedding.name))
    return (*pqn, *rpqn, embedding, *afterwards)


def _published_rows() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"published-{bits}", "PQN, published net and loss", RunConfig(bits=bits, **PUBLISHED)
        )
        for bits in BITS
    )


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images",
    TEXT,
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    (
        *_rows("conv3", "3-conv net"),
        *_published_rows(),
        *_rows("resnet20", "ResNet-20", "resnet20-"),
    ),
)
