"""The first table of docs/results.md: one figure of each protocol, beside those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from research.metrics import METRICS, find_figures, format_mean
from research.records import Record
from research.table import Table


class Line(NamedTuple):
    """A row of a table that the summary shows."""

    table: str
    row: str
    published: str = ""
    metric: str = "codes"


LINES = (
    Line("cifar10-p1", "pqn-24", "PQN .782"),
    Line("cifar10-p1", "pqn-24-mirrored", "PQN .782"),
    Line("cifar10-p1", "resnet9-rpqn-24"),
    Line("cifar10-p1", "resnet9-rpqn-24-mirrored"),
    Line("cifar10-published", "published-24", "PQN .782"),
    Line("cifar10-p2", "lite0-128-pqn-4", "PQN .945"),
    Line("cifar10-p2", "lite0-128-pqn-48", "DPQ .951, PQN .947"),
    Line("cifar10-p3", "lite0-frozen-48"),
    Line("cifar10-p3", "lite0-128-pqn-48", "DFH .844"),
    Line("cifar10-unlabelled", "lite0-whitened-32", "MeCoQ .702", "codes-1000"),
    Line("moving-digits", "motion-24"),
    Line("msr-action3d", "motion-48"),
)
INTRODUCTION = """\
## In short

The sections below say how our networks were trained, and what is known of the published ones. Phone
photos have a [table of their own](training.md#what-it-gives-on-phone-photos)."""


def format_summary(recorded: Mapping[str, tuple[Table, Sequence[Record]]]) -> str:
    """The section, of the lines that have a record; nothing where none has.

    Args:
        recorded: Name -> table and its records.
    """
    lines = []
    for line in LINES:
        if line.table not in recorded:
            continue
        table, records = recorded[line.table]
        row = table.find(line.row)
        found = find_figures(table, [row], records, table.protocols[0], line.metric)
        for figures in found.values():
            title, _ = METRICS[line.metric]
            lines.append(
                f"| {table.title} | {row.group}, {row.config.model.bits} bits"
                f"{title.removeprefix('codes')} | {format_mean(figures)} | {len(figures)} "
                f"| {line.published} |"
            )
    if not lines:
        return ""
    head = ["| data | network and codes | mAP | seeds | published |", "|---|---|---:|---:|---|"]
    return "\n".join([INTRODUCTION, "", *head, *lines, ""])
