"""Pictures of recorded results."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.metrics import (
    AXES,
    METRICS,
    compares_metrics,
    find_figures,
    group_rows,
    position_of,
    positions_of,
    title_line,
)
from research.records import Record
from research.table import Table
from tfpqn.files.atomic import write_file_atomically

# Pixels of a picture for a screen.
PIXELS_PER_INCH = 110


def draw_table(table: Table, records: Sequence[Record], path: Path) -> None:
    """mAP along the table's axis, one line a group and metric, and beside it mAP by epoch where
    runs were evaluated between epochs."""
    from matplotlib.figure import Figure

    has_growth = any("mAP" in epoch for record in records for epoch in record["history"])
    size = (9.6 if has_growth else 6.4, 3.8)
    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")
    results, *growth = np.atleast_1d(figure.subplots(1, 1 + has_growth))
    _draw_results(table, records, results)
    for axes in growth:
        _draw_growth(table, records, axes)
    content = io.BytesIO()
    figure.savefig(content)
    write_file_atomically(path, content.getvalue())


def _draw_results(table: Table, records: Sequence[Record], axes: Any) -> None:
    if compares_metrics(table):
        _draw_one_position(table, records, axes)
        return
    for group, rows in group_rows(table).items():
        for metric in table.metrics:
            figures = find_figures(table, rows, records, table.protocols[0], metric)
            means = [(x, sum(values) / len(values)) for x, values in sorted(figures.items())]
            if means:
                title = title_line(table, group, metric)
                axes.plot(*zip(*means, strict=True), marker="o", label=title)
        published = [(position_of(table, row), row.published) for row in rows if row.published]
        if published:
            title = f"{group}, published"
            axes.plot(*zip(*published, strict=True), "k--", marker="x", label=title)
    positions = positions_of(table)
    if table.axis != "bits":
        axes.set_xscale("log", base=2)
    axes.set_xticks(positions, [f"{x:g}" for x in positions])
    axes.set(xlabel=AXES[table.axis], ylabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=7)


def _draw_one_position(table: Table, records: Sequence[Record], axes: Any) -> None:
    """One line of points a metric, one point a group, the first group on top."""
    groups = group_rows(table)
    for metric in table.metrics:
        points = []
        for position, rows in enumerate(groups.values()):
            found = find_figures(table, rows, records, table.protocols[0], metric)
            points += [(x, position) for figures in found.values() for x in figures]
        if points:
            axes.plot(*zip(*points, strict=True), "o", label=METRICS[metric][0])
    axes.set_yticks(range(len(groups)), [textwrap.fill(name, 40) for name in groups], fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.4)
    axes.set(xlabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=7, ncols=len(table.metrics), loc="lower left", bbox_to_anchor=(0, 1))


def _draw_growth(table: Table, records: Sequence[Record], axes: Any) -> None:
    for record in records:
        points = [(epoch["epoch"], epoch["mAP"]) for epoch in record["history"] if "mAP" in epoch]
        if points:
            label = f"{record['row']}, seed {record['seed']}"
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.set(xlabel="epoch", ylabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=5)
