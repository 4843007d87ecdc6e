"""What a table shows of its records: figures of a metric along the table's axis."""

from __future__ import annotations

from collections.abc import Sequence

from research.records import Record
from research.table import Table
from tfpqn.training.recipes import Recipe

# What an evaluation holds, by the name a table gives it: title and where the figure stands.
METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "codes": ("codes", ("mAP",)),
    "codes-1000": ("codes, of the best 1,000", ("mAP@R", "1000")),
    "soft": ("soft items", ("soft_items", "mAP")),
    "raw": ("raw embeddings", ("raw_embeddings", "mAP")),
    "symmetric": ("coded queries too", ("coded_queries", "mAP")),
}
AXES = {
    "bits": "bits",
    "alpha": "alpha",
    "num_subspaces": "codebooks",
}


def group_rows(table: Table) -> dict[str, list[Recipe]]:
    """The rows by group, in the table's order."""
    groups: dict[str, list[Recipe]] = {}
    for row in table.rows:
        if row.group is not None:
            groups.setdefault(row.group, []).append(row)
    return groups


def position_of(table: Table, row: Recipe) -> float:
    """Where a row stands on the table's axis."""
    return float(row.config.flat()[table.axis])


def positions_of(table: Table) -> list[float]:
    """The columns of the table: positions of all rows that stand in a group."""
    return sorted({position_of(table, row) for row in table.rows if row.group is not None})


def compares_metrics(table: Table) -> bool:
    """Whether all rows stand at one value of the axis, so that only metrics make columns."""
    return len(positions_of(table)) == 1 and len(table.metrics) > 1


def title_line(table: Table, group: str, metric: str) -> str:
    """Of a group, and of the metric where the table has several."""
    return group if len(table.metrics) == 1 else f"{group}: {METRICS[metric][0]}"


def find_figures(
    table: Table, rows: Sequence[Recipe], records: Sequence[Record], protocol: str, metric: str
) -> dict[float, list[float]]:
    """The figures of a group's seeds, by position on the table's axis; only what is recorded."""
    positions = {row.name: position_of(table, row) for row in rows}
    figures: dict[float, list[float]] = {}
    for record in records:
        figure = record["metrics"].get(protocol)
        for key in METRICS[metric][1]:
            # Records from before a metric was taken lack it.
            figure = None if figure is None else figure.get(key)
        if record["row"] in positions and figure is not None:
            figures.setdefault(positions[record["row"]], []).append(figure)
    return figures


def format_mean(figures: Sequence[float]) -> str:
    """Mean, and where there are several the smallest and the largest; nothing of none."""
    if not figures:
        return ""
    mean = f"{sum(figures) / len(figures):.4f}"
    return mean if len(figures) == 1 else f"{mean} ({min(figures):.3f}-{max(figures):.3f})"
