"""Records of trained rows: read, checked, and held against their recipes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research.table import Table
from tfpqn.training.settings.run_config import RunConfig

Record = dict[str, Any]

# What the page takes of a record, and of its figures under each protocol.
RECORDED: dict[str, tuple[type, ...]] = {
    "table": (str,),
    "row": (str,),
    "seed": (int,),
    "start": (str, type(None)),
    "settings": (dict,),
    "history": (list,),
    "metrics": (dict,),
    "training_seconds": (int, float),
    "commit": (str, type(None)),
    "versions": (dict,),
    "hardware": (str,),
    "backend": (str,),
}
FIGURES = (("mAP",), ("soft_items", "mAP"), ("raw_embeddings", "mAP"), ("recall@k", "1"))
NO_RECORD = "{} must be a record of `python -m research`, of its place's table and row. Received:"


def read_records(table: Table, results_dir: str | Path) -> list[Record]:
    """The records of a table, row by row in the table's order, then by seed.

    A record of a row that the table does not have, or no longer, is left out.

    Raises:
        ValueError: A file is no record, or not the one that its place says.
    """
    names = [row.name for row in table.rows]
    paths = (Path(results_dir) / table.name).glob("*.json")
    records = [_read_record(path, table) for path in sorted(paths)]
    known = [record for record in records if record["row"] in names]
    return sorted(known, key=lambda record: (names.index(record["row"]), record["seed"]))


def _read_record(path: Path, table: Table) -> Record:
    """The content of a file of the table's folder, which is named by row and seed."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check_record(record, table)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{NO_RECORD.format(path)} {type(error).__name__}: {error}") from error
    place = (record["table"], f"{record['row']}-{record['seed']}")
    if place != (table.name, path.stem):
        raise ValueError(f"{NO_RECORD.format(path)} one of {'/'.join(place)}")
    return record


def _check_record(record: Any, table: Table) -> None:
    """Raises ValueError, LookupError or TypeError unless the page can be made of a record."""
    for name, kinds in RECORDED.items():
        if not isinstance(record[name], kinds):
            raise ValueError(f"{name} is {record[name]!r}")
    for protocol in table.protocols:
        for keys in FIGURES:
            figure = record["metrics"][protocol]
            for key in keys:
                figure = figure[key]
            if not 0 <= figure <= 1:
                raise ValueError(f"{'/'.join(keys)} under {protocol} is {figure!r}")
    trained = record["metrics"][record["settings"]["protocol"]]
    if trained["splits"]["train"]["num_images"] < 1:
        raise ValueError("there is no training image")
    if any(not epoch["seconds"] > 0 for epoch in record["history"]):
        raise ValueError("an epoch took no time")
    if record["commit"] is None:
        # It then stands for the code.
        record["versions"]["tfpqn"]


def find_changes(table: Table, record: Record, records: Sequence[Record]) -> list[str]:
    """What a run, or the run that it starts from, had otherwise than its row has now.

    A setting that is younger than the record had the value of `RunConfig.plain` then. Precision is
    a matter of the machine, and no change.
    """
    row = table.find(record["row"])
    before = {**RunConfig.plain().flat(), **record["settings"]}
    changes = [
        f"{name} {before[name]}, now {value}"
        for name, value in row.settings().items()
        if before[name] != value and name != "precision"
    ]
    # Levels of residuals of embeddings, a setting once, are no longer trained.
    has_levels = (row.config.model.num_levels or 1) > 1
    if has_levels and before.get("residuals") == "embeddings":
        changes.append("residuals embeddings, now reconstructions")
    if record["start"] != row.start:
        return [*changes, f"start {record['start']}, now {row.start}"]
    return changes + [
        f"that of its start `{start['row']}`: {change}"
        for start in records
        if (start["row"], start["seed"]) == (row.start, record["seed"])
        for change in find_changes(table, start, records)
    ]
