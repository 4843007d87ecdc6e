"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from ..run_config import RunConfig
from .recipe import Recipe, Table

BITS = (12, 24, 36, 48)
PQN = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}


def _rows() -> tuple[Recipe, ...]:
    rows = []
    for bits in BITS:
        config = RunConfig(
            protocol="cifar10-full",
            bits=bits,
            augment=True,
            max_shift=4,
            epochs=60,
        )
        rows.append(Recipe(f"pqn-{bits}", "PQN", config, published=PQN[bits]))
    return tuple(rows)


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images, 3-conv net",
    "",
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    _rows(),
)
