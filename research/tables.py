"""All tables of docs/results.md by name, in its order."""

from __future__ import annotations

from research.recipes.ablations import (
    ABLATION_ADDITIONS,
    ABLATION_ALPHA,
    ABLATION_CODEBOOKS,
    ABLATION_LOSSES,
)
from research.recipes.cifar10_p1 import CIFAR10_P1
from research.recipes.cifar10_p2_p3 import CIFAR10_P2, CIFAR10_P3
from research.recipes.cifar10_published import CIFAR10_PUBLISHED
from research.recipes.clips import CLIPS
from research.recipes.unlabelled import CIFAR10_UNLABELLED
from research.table import Table

TABLES = {
    table.name: table
    for table in (
        CIFAR10_P1,
        CIFAR10_PUBLISHED,
        CIFAR10_P2,
        CIFAR10_P3,
        CIFAR10_UNLABELLED,
        ABLATION_ALPHA,
        ABLATION_CODEBOOKS,
        ABLATION_LOSSES,
        ABLATION_ADDITIONS,
        *CLIPS,
    )
}


def find_table(name: str) -> Table:
    """Look up a table.

    Raises:
        ValueError: The name is unknown; the message lists the known.
    """
    if name not in TABLES:
        raise ValueError(f"Unknown table. Expected one of {list(TABLES)}. Received: {name!r}")
    return TABLES[name]
