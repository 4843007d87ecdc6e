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
TRAINING: dict[str, Any] = {**FROM_NOTHING, "protocol": "cifar10-full", "epochs": 50}


def _rows() -> tuple[Recipe, ...]:
    pqn = [
        Recipe(
            f"pqn-{bits}", "PQN", RunConfig(bits=bits, **TRAINING), published=PQN_PUBLISHED[bits]
        )
        for bits in BITS
    ]
    rpqn = [
        Recipe(f"rpqn-{bits}", "RPQN", RunConfig(model="rpqn", bits=bits, **TRAINING))
        for bits in BITS
    ]
    embedding = Recipe("embedding", None, RunConfig(loss_sides="raw", **TRAINING))
    afterwards = [
        Recipe(
            f"embedding-pq-{bits}",
            "embedding, then k-means PQ",
            RunConfig(bits=bits, **{**TRAINING, "epochs": 0, "warmup_epochs": 0.0}),
            start="embedding",
        )
        for bits in BITS
    ]
    return (*pqn, *rpqn, embedding, *afterwards)


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images, 3-conv net",
    TEXT,
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    _rows(),
)
