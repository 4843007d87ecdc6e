"""Train the rows of a table again, and record what comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.machine import note_machine
from research.table import Table
from tfpqn.datasets import Splits
from tfpqn.files.typed_json import write_json
from tfpqn.training.evaluation import evaluate
from tfpqn.training.recipes import Recipe
from tfpqn.training.runs.frozen_backbone import FrozenBackbone
from tfpqn.training.runs.run import Run
from tfpqn.training.runs.train import train
from tfpqn.training.settings.run_config import RunConfig

EVALUATE_EVERY = 5

Say = Callable[[str], None]


def reproduce(
    table: Table,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    results_dir: str | Path = "results",
    say: Say = print,
    progress: bool = True,
) -> list[Path]:
    """Run rows of a table, each for each seed, and write a record of each.

    A row that starts from another has that one trained first, and recorded unless a record is
    there. What was trained before is not trained again, and a run that was killed goes on from its
    last checkpoint.

    Args:
        table: From `find_table`.
        rows: Names of rows; None for all.
        seeds: Seeds to run each row with; None for those of the row.
        data_dir: Folder of the data sets.
        runs_dir: The runs lie in `runs_dir/TABLE/ROW-SEED`.
        results_dir: The records are written to `results_dir/TABLE/ROW-SEED.json`.
        say: Is told what begins and what came out.
        progress: Whether to show progress bars.

    Returns:
        Paths of the records that were written.

    Raises:
        ValueError: A row is unknown, a seed is out of range, a run's folder holds a run of other
            settings, or a file of it is damaged.
        FileNotFoundError: The data is not there.
        OSError: Records cannot be written to `results_dir`.
    """
    chosen = [table.find(name) for name in rows] if rows else list(table.rows)
    wanted = [
        (recipe, seed)
        for recipe in chosen
        for seed in (seeds if seeds is not None else recipe.seeds)
    ]
    # What would be refused of the last run is refused before the first is trained.
    place = _Place(table, Path(runs_dir), Path(results_dir), data_dir, progress)
    for recipe, seed in wanted:
        runs = [place.configure(row, seed) for row in _list_starts(table, recipe)]
        # A trained run needs its start no more.
        for run in runs[-1:] if runs[-1].is_trained else runs:
            run.require_own_settings()
    place.require_writable()
    paths: list[Path] = []
    for recipe, seed in wanted:
        for row in _list_starts(table, recipe):
            path = place.record(row, seed)
            if path in paths or row is not recipe and place.needs_no_start(recipe, row, seed):
                continue
            say(f"{table.name}, {row.name}, seed {seed}")
            record = _describe(table, row, _train(place, row, seed), data_dir)
            write_json(path, record)
            say(f"mAP {record['metrics'][table.protocols[0]]['mAP']:.4f}: {path}")
            paths.append(path)
    return paths


class _Place(NamedTuple):
    """Where a table's runs and records lie, and its data."""

    table: Table
    runs_dir: Path
    results_dir: Path
    data_dir: str | Path | None
    progress: bool

    def needs_no_start(self, recipe: Recipe, start: Recipe, seed: int) -> bool:
        """Whether a start that nobody asked for is recorded, or is needed no more and gone."""
        is_trained = [self.configure(row, seed).is_trained for row in (recipe, start)]
        return self.record(start, seed).is_file() or is_trained == [True, False]

    def configure(self, recipe: Recipe, seed: int) -> Run:
        """The run of a row, which may not have begun.

        Raises:
            ValueError: The seed is out of range.
        """
        start = None if recipe.start is None else str(self._run_folder(recipe.start, seed))
        folder = self._run_folder(recipe.name, seed)
        return Run(folder, _keep_start(folder, recipe.config_of(seed, start)))

    def require_writable(self) -> None:
        """Raises OSError where records could not be written."""
        folder = self.results_dir / self.table.name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass

    def record(self, recipe: Recipe, seed: int) -> Path:
        return self.results_dir / self.table.name / f"{recipe.name}-{seed}.json"

    def _run_folder(self, row: str, seed: int) -> Path:
        return self.runs_dir / self.table.name / f"{row}-{seed}"


def _list_starts(table: Table, recipe: Recipe) -> list[Recipe]:
    """The row and all that it starts from, in the order of training."""
    if recipe.start is None:
        return [recipe]
    return [*_list_starts(table, table.find(recipe.start)), recipe]


def _train(place: _Place, recipe: Recipe, seed: int) -> Run:
    """The trained run of a row; of a row that starts from another, after that."""
    run = place.configure(recipe, seed)
    if recipe.start is not None and not run.is_trained:
        _train(place, place.table.find(recipe.start), seed)
    run = Run.start(run.folder, run.config)
    if not run.is_trained:
        note_machine(run.folder, anew=not run.has_begun)
        splits = run.load_splits(place.data_dir)
        train(run, splits, evaluate_every=EVALUATE_EVERY, progress=place.progress)
    return run


def _keep_start(folder: Path, config: RunConfig) -> RunConfig:
    """The settings that the folder's run was begun with, where all but the start's path are so.

    Runs may be moved as a whole: then the start lies elsewhere, and is the same.
    """
    if not Run(folder, config).has_begun:
        return config
    former = Run.open(folder).config
    moved = former.replace(initial_run=config.model.initial_run)
    return former if moved == config.open_as(former) else config


def _evaluate(run: Run, network: Any, splits: Splits) -> dict[str, Any]:
    """The figures of a network; of a frozen backbone from the features that training has kept."""
    if not run.config.model.freeze_backbone:
        return evaluate(network, splits)
    frozen = FrozenBackbone(run, splits)
    return evaluate(frozen.head(network), frozen.splits(with_queries=True))


def _describe(
    table: Table, recipe: Recipe, run: Run, data_dir: str | Path | None
) -> dict[str, Any]:
    history = run.read_history()
    epochs = run.config.num_epochs
    if len(history) != epochs:
        raise ValueError(
            f"The run in {str(run.folder)!r} must have a history of {epochs} epochs. "
            f"Received: {len(history)}"
        )
    network = run.load_network()
    metrics = {}
    for protocol in table.protocols:
        metrics[protocol] = _evaluate(run, network, run.load_splits(data_dir, protocol))
    return {
        "table": table.name,
        "row": recipe.name,
        "seed": run.config.seed,
        "command": f"python -m research {table.name} --rows {recipe.name} --seed {run.config.seed}",
        "start": recipe.start,
        "settings": recipe.settings(),
        **note_machine(run.folder),
        "training_seconds": sum(epoch["seconds"] for epoch in history),
        "history": history,
        "metrics": metrics,
    }
