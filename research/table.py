"""A table of results: rows that are measured in the same way."""

from __future__ import annotations

import dataclasses

from tfpqn.training.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that are measured in the same way.

    Attributes:
        name: Name on the command line.
        title: Heading.
        text: What a reader has to know, in Markdown.
        protocols: Protocols that each trained network is evaluated on; the table's own first.
        rows: The recipes, starts before those that start from them.
        axis: Name of the setting in which rows of a group differ: "bits", "alpha" or
            "num_subspaces".
        metrics: What is shown of each row; keys of `research.metrics.METRICS`.
    """

    name: str
    title: str
    text: str
    protocols: tuple[str, ...]
    rows: tuple[Recipe, ...]
    axis: str = "bits"
    metrics: tuple[str, ...] = ("codes",)

    def __post_init__(self) -> None:
        names: set[str] = set()
        for row in self.rows:
            if row.name in names:
                raise ValueError(f"Rows of {self.name} must differ in name. Received: {row.name!r}")
            if row.start is not None and row.start not in names:
                raise ValueError(
                    f"{row.name!r} must start from a row before it. Received: {row.start!r}"
                )
            names.add(row.name)

    def find(self, name: str) -> Recipe:
        """Look up a row.

        Raises:
            ValueError: There is none of that name; the message lists the names.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(
            f"Unknown row of {self.name}. Expected one of {[row.name for row in self.rows]}. "
            f"Received: {name!r}"
        )
