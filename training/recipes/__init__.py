"""Settings of the rows of docs/results.md that one would train with, by name."""

from __future__ import annotations

from .cifar10_p1 import CIFAR10_P1
from .recipe import Recipe

__all__ = ["RECIPES", "Recipe", "find_recipe"]

# Table -> its rows.
RECIPES = {"cifar10-p1": CIFAR10_P1}


def find_recipe(path: str) -> Recipe:
    """Look up `"TABLE/ROW"`.

    Raises:
        ValueError: There is none of that name; the message lists the names.
    """
    table, _, name = path.partition("/")
    if not name:
        raise ValueError(f"A recipe must be named TABLE/ROW. Received: {path!r}")
    if table not in RECIPES:
        raise ValueError(f"Unknown table. Expected one of {list(RECIPES)}. Received: {table!r}")
    for row in RECIPES[table]:
        if row.name == name:
            return row
    raise ValueError(
        f"Unknown row of {table}. Expected one of {[row.name for row in RECIPES[table]]}. "
        f"Received: {name!r}"
    )
