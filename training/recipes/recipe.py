"""Settings by name, as a row of docs/results.md was trained with them."""

from __future__ import annotations

import dataclasses
from pathlib import PurePath
from typing import Any

from ..settings.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One network, trained once for each seed.

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
        return self.config.replace(seed=seed, initial_run=initial_run)

    def settings(self) -> dict[str, Any]:
        """The settings that all its runs have in common."""
        settings = self.config.flat()
        del settings["seed"], settings["initial_run"]
        if settings["weights"]:
            # Wherever the file lies.
            settings["weights"] = PurePath(settings["weights"]).name
        return settings
