"""Train the rows of a table again, and record what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfpqn.files import write_file_atomically

from .evaluation import evaluate
from .machine import note_machine
from .recipes import Recipe, Table
from .run_training import train
from .runs import Run

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

    What was trained before is not trained again, and a run that was killed goes on from its last
    checkpoint.

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
        Paths of the records.

    Raises:
        ValueError: A row is unknown, or a run's folder holds a run of other settings.
        FileNotFoundError: The data is not there.
    """
    chosen = [table.find(name) for name in rows] if rows else list(table.rows)
    records = []
    for recipe in chosen:
        for seed in seeds if seeds is not None else recipe.seeds:
            say(f"{table.name}, {recipe.name}, seed {seed}")
            run = _train(table, recipe, seed, Path(runs_dir), data_dir, progress)
            record = _describe(table, recipe, run, data_dir)
            path = Path(results_dir) / table.name / f"{recipe.name}-{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
            say(f"mAP {record['metrics'][table.protocols[0]]['mAP']:.4f}: {path}")
            records.append(path)
    return records


def _train(
    table: Table,
    recipe: Recipe,
    seed: int,
    runs_dir: Path,
    data_dir: str | Path | None,
    progress: bool,
) -> Run:
    """The trained run of a row; of a row that starts from another, after that."""
    start = None
    if recipe.start is not None:
        start = _train(table, table.find(recipe.start), seed, runs_dir, data_dir, progress)
    config = recipe.config_of(seed, None if start is None else str(start.folder))
    run = Run.start(runs_dir / table.name / f"{recipe.name}-{seed}", config)
    if not run.is_trained:
        splits = run.load_splits(data_dir)
        train(run, splits, evaluate_every=EVALUATE_EVERY, progress=progress)
    return run


def _describe(
    table: Table, recipe: Recipe, run: Run, data_dir: str | Path | None
) -> dict[str, Any]:
    network, history = run.load_network(), run.read_history()
    metrics = {}
    for protocol in table.protocols:
        metrics[protocol] = evaluate(network, run.load_splits(data_dir, protocol))
    return {
        "table": table.name,
        "row": recipe.name,
        "seed": run.config.seed,
        "command": f"tfpqn reproduce {table.name} --rows {recipe.name} --seed {run.config.seed}",
        "start": recipe.start,
        "settings": recipe.settings(),
        **note_machine(run.folder, run.config),
        "training_seconds": sum(epoch["seconds"] for epoch in history),
        "history": history,
        "metrics": metrics,
    }
