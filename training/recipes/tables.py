"""All tables by name."""

from __future__ import annotations

from .cifar10_p1 import CIFAR10_P1
from .clips import HMDB51, MOVING_DIGITS, MSR_ACTION3D, UCF101
from .recipe import Recipe, Table

TABLES = {table.name: table for table in (CIFAR10_P1, MOVING_DIGITS, MSR_ACTION3D, UCF101, HMDB51)}


def table_names() -> list[str]:
    """Names that `find_table` knows."""
    return list(TABLES)


def find_table(name: str) -> Table:
    """Look up a table.

    Raises:
        ValueError: The name is unknown; the message lists the known.
    """
    if name not in TABLES:
        raise ValueError(f"Unknown table. Expected one of {table_names()}. Received: {name!r}")
    return TABLES[name]


def find_recipe(path: str) -> Recipe:
    """Look up `"TABLE/ROW"`.

    Raises:
        ValueError: There is none of that name.
    """
    table, _, row = path.partition("/")
    if not row:
        raise ValueError(f"A recipe must be named TABLE/ROW. Received: {path!r}")
    return find_table(table).find(row)
