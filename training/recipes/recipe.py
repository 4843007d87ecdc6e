"""What a row of a table is made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..settings.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of a table: one network, trained once for each seed.

    Attributes:
        name: Name of the row, unique in its table.
        group: What rows of several bit lengths have in common; they stand together in a table.
            None for a row that others start from, whose own codes say nothing.
        config: Settings of the run. Its seed is replaced, and its `initial_run` is the run of
            `start`.
        seeds: Seeds that the table's figure is the mean of.
        start: Name of the row of the same table whose trained run this one starts from.
        published: The paper's figure for this row, if it is known.
    """

    name: str
    group: str | None
    config: RunConfig
    seeds: tuple[int, ...] = (0,)
    start: str | None = None
    published: float | None = None

    def config_of(self, seed: int, initial_run: str | None = None) -> RunConfig:
        """The settings of one run."""
        return dataclasses.replace(self.config, seed=seed, initial_run=initial_run)

    def settings(self) -> dict[str, Any]:
        """The settings that all its runs have in common."""
        settings = self.config.to_json()
        del settings["seed"], settings["initial_run"]
        return settings


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
        readings: What is shown of each row; keys of `research.readings.READINGS`.
    """

    name: str
    title: str
    text: str
    protocols: tuple[str, ...]
    rows: tuple[Recipe, ...]
    axis: str = "bits"
    readings: tuple[str, ...] = ("codes",)

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
