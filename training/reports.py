"""Tables and pictures of recorded results, from the records alone."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.files import write_file_atomically

from .recipes import Recipe, Table
from .run_config import RunConfig

Record = dict[str, Any]

# What an evaluation holds, by the name a table gives it: title and where the figure stands.
READINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "codes": ("codes", ("mAP",)),
    "soft": ("soft items", ("soft_items", "mAP")),
    "raw": ("raw embeddings", ("raw_embeddings", "mAP")),
    "symmetric": ("coded queries too", ("coded_queries", "mAP")),
}
AXES = {
    "bits": "bits",
    "alpha": "alpha",
    "num_subspaces": "codebooks",
}
# Beside a run that was trained with other settings than its row has now.
FORMER_MARK = " †"
# Written by benchmarks/training_speed.py.
SPEED_FILE = "training-speed.json"
# Pixels of a picture for a screen.
PIXELS_PER_INCH = 110


def read_records(table: Table, results_dir: str | Path) -> list[Record]:
    """The records of a table, row by row in the table's order, then by seed.

    A record of a row that the table does not have, or no longer, is left out.
    """
    names = [row.name for row in table.rows]
    paths = (Path(results_dir) / table.name).glob("*.json")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
    known = [record for record in records if record["row"] in names]
    return sorted(known, key=lambda record: (names.index(record["row"]), record["seed"]))


def write_report(tables: Sequence[Table], results_dir: str | Path, page: str | Path) -> None:
    """Write a page of Markdown on all tables that have records, and the pictures beside it."""
    page = Path(page)
    parts = ["# Results\n", INTRODUCTION]
    for table in tables:
        records = read_records(table, results_dir)
        if records:
            picture = page.parent / f"{table.name}.png"
            draw_table(table, records, picture)
            parts.append(format_table(table, records, picture.name))
    speed = Path(results_dir) / SPEED_FILE
    if speed.is_file():
        parts.append(format_speed(json.loads(speed.read_text(encoding="utf-8"))))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(page, "\n".join(parts).encode())


INTRODUCTION = """\
Made by `tfpqn reproduce` from the records, one JSON file a run; do not edit. The mAP is over the
full ranking, raw query against hard codes; equally scored items count with the expected value over
their orders. "Soft" is the mAP against items reconstructed as in training, "raw" that of the same
network's embeddings without coding, "coded queries" that of a search from code to code. A figure of
several seeds is their mean, with the smallest and the largest in brackets. "Published" figures are
those of the paper's authors. What is marked † was trained by a former recipe of its row.
"""


def format_table(table: Table, records: Sequence[Record], picture: str) -> str:
    """A section on one table."""
    lines = [f"## {table.title}", "", table.text, ""]
    for protocol in table.protocols:
        lines += [f"mAP, `{protocol}`:", "", *format_overview(table, records, protocol), ""]
    lines += [f"![mAP, {table.title}]({picture})", "", *format_runs(table, records), ""]
    return "\n".join(lines)


def format_overview(table: Table, records: Sequence[Record], protocol: str) -> list[str]:
    """One line a group and reading, one column a value of the table's axis; several readings at a
    single value have a column each."""
    columns = _positions(table)
    if _compares_readings(table):
        return _format_readings(table, records, protocol)
    title = AXES[table.axis]
    lines = [
        f"| {title} | " + " | ".join(f"{column:g}" for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for group, rows in _group_rows(table).items():
        for reading in table.readings:
            figures = _figures(table, rows, records, protocol, reading)
            if figures:
                former = {_position(table, row) for row in rows if _has_former(row, records)}
                cells = [
                    format_mean(figures.get(column, [])) + FORMER_MARK * (column in former)
                    for column in columns
                ]
                lines.append(
                    f"| {_line_title(table, group, reading)} | " + " | ".join(cells) + " |"
                )
        published = {_position(table, row): row.published for row in rows if row.published}
        if published and protocol == table.protocols[0]:
            cells = [f"{published[c]:.3f}" if c in published else "" for c in columns]
            lines.append(f"| {group}, published | " + " | ".join(cells) + " |")
    return lines


def _format_readings(table: Table, records: Sequence[Record], protocol: str) -> list[str]:
    lines = [
        "| | " + " | ".join(READINGS[reading][0] for reading in table.readings) + " |",
        "|---|" + "---:|" * len(table.readings),
    ]
    for group, rows in _group_rows(table).items():
        figures = [_figures(table, rows, records, protocol, name) for name in table.readings]
        if any(figures):
            cells = [format_mean([x for xs in one.values() for x in xs]) for one in figures]
            lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return lines


def _group_rows(table: Table) -> dict[str, list[Recipe]]:
    """The rows by group, in the table's order."""
    groups: dict[str, list[Recipe]] = {}
    for row in table.rows:
        if row.group is not None:
            groups.setdefault(row.group, []).append(row)
    return groups


def _position(table: Table, row: Recipe) -> float:
    return float(getattr(row.config, table.axis))


def _positions(table: Table) -> list[float]:
    return sorted({_position(table, row) for row in table.rows if row.group is not None})


def _compares_readings(table: Table) -> bool:
    """Whether all rows stand at one value of the axis, so that only readings make columns."""
    return len(_positions(table)) == 1 and len(table.readings) > 1


def _line_title(table: Table, group: str, reading: str) -> str:
    return group if len(table.readings) == 1 else f"{group}: {READINGS[reading][0]}"


def _figures(
    table: Table, rows: Sequence[Recipe], records: Sequence[Record], protocol: str, reading: str
) -> dict[float, list[float]]:
    """The figures of a group's seeds, by position on the table's axis; only what is recorded."""
    positions = {row.name: _position(table, row) for row in rows}
    figures: dict[float, list[float]] = {}
    for record in records:
        figure = record["metrics"].get(protocol)
        for key in READINGS[reading][1]:
            # Records from before a reading was taken lack it.
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


def format_runs(table: Table, records: Sequence[Record]) -> list[str]:
    """One line a run."""
    lines = [
        "| row, seed | mAP | soft | raw | recall@1 | minutes | images/s | trained at |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for record in records:
        metrics = record["metrics"][table.protocols[0]]
        start = f", from `{record['start']}`" if record["start"] else ""
        mark = FORMER_MARK if is_former(record, table.find(record["row"])) else ""
        lines.append(
            f"| `{record['row']}`, {record['seed']}{start}{_name_precision(record)}{mark} "
            f"| {metrics['mAP']:.4f} "
            f"| {metrics['soft_items']['mAP']:.4f} | {metrics['raw_embeddings']['mAP']:.4f} "
            f"| {metrics['recall@k']['1']:.4f} | {record['training_seconds'] / 60:.0f} "
            f"| {_format_speed(record)} | {record['commit'] or record['versions']['tfpqn']} |"
        )
    places = sorted({_describe_place(record) for record in records})
    return [*lines, "", *(f"- {place}" for place in places)]


def _name_precision(record: Record) -> str:
    """What training computed in, if that is not what its settings want."""
    wanted = record["settings"].get("precision")
    # Records from before the choice lack it.
    taken = record.get("precision", wanted)
    return "" if taken == wanted else f", in {taken}"


def _has_former(row: Recipe, records: Sequence[Record]) -> bool:
    return any(record["row"] == row.name and is_former(record, row) for record in records)


def format_speed(content: Record) -> str:
    """A section on training images a second, one table a machine."""
    lines = [
        "## Speed of training",
        "",
        "PQN of 24 bits, triplet loss and classifier, SGD, batches of "
        f"{content['batch_size']} images of 32 x 32 pixels",
        "from memory, by `network.fit`, without reading and augmenting images. The ratio is that",
        "to the first line in the same round.",
        "",
    ]
    for machine in content["machines"]:
        lines += [
            f"`{machine['command']}`: {machine['hardware']}; load {machine['load_before']:.1f} "
            f"before the run; {_format_versions(machine)}.",
            "",
            "| backbone | backend and settings | images/s | ratio |",
            "|---|---|---:|---:|",
            *(
                f"| {row['backbone']} | {row['case']} | {row['images_per_second']:,.0f} "
                f"| {row['ratio']:.2f} |"
                for row in machine["rows"]
            ),
            "",
        ]
    return "\n".join(lines)


def is_former(record: Record, recipe: Recipe) -> bool:
    """Whether a run was trained with other settings than its row has now.

    A setting that is younger than the record had its default then.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    return any(
        record["settings"].get(name, defaults[name]) != value
        for name, value in recipe.settings().items()
    )


def _format_speed(record: Record) -> str:
    """Training images a second, of the fastest epoch: evaluations and other work take time too."""
    seconds = [epoch["seconds"] for epoch in record["history"] if "mAP" not in epoch]
    number = record["metrics"][record["settings"]["protocol"]]["splits"]["train"]["num_images"]
    return f"{number / min(seconds):,.0f}" if seconds else ""


def _describe_place(record: Record) -> str:
    return f"{record['hardware']}, backend {record['backend']}; {_format_versions(record)}."


def _format_versions(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())


def draw_table(table: Table, records: Sequence[Record], path: Path) -> None:
    """mAP along the table's axis, one line a group and reading, and beside it mAP by epoch where
    runs were evaluated between epochs."""
    from matplotlib.figure import Figure

    has_growth = any("mAP" in epoch for record in records for epoch in record["history"])
    size = (9.6 if has_growth else 6.4, 3.8)
    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")
    results, *growth = np.atleast_1d(figure.subplots(1, 1 + has_growth))
    _draw_results(table, records, results)
    for axes in growth:
        _draw_growth(table, records, axes)
    figure.savefig(path)


def _draw_results(table: Table, records: Sequence[Record], axes: Any) -> None:
    if _compares_readings(table):
        _draw_one_position(table, records, axes)
        return
    for group, rows in _group_rows(table).items():
        for reading in table.readings:
            figures = _figures(table, rows, records, table.protocols[0], reading)
            means = [(x, sum(values) / len(values)) for x, values in sorted(figures.items())]
            if means:
                title = _line_title(table, group, reading)
                axes.plot(*zip(*means, strict=True), marker="o", label=title)
        published = [(_position(table, row), row.published) for row in rows if row.published]
        if published:
            title = f"{group}, published"
            axes.plot(*zip(*published, strict=True), "k--", marker="x", label=title)
    positions = _positions(table)
    if table.axis != "bits":
        axes.set_xscale("log", base=2)
    axes.set_xticks(positions, [f"{x:g}" for x in positions])
    axes.set(xlabel=AXES[table.axis], ylabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=7)


def _draw_one_position(table: Table, records: Sequence[Record], axes: Any) -> None:
    """One line of points a reading, one point a group, the first group on top."""
    groups = _group_rows(table)
    for reading in table.readings:
        points = []
        for position, rows in enumerate(groups.values()):
            found = _figures(table, rows, records, table.protocols[0], reading)
            points += [(x, position) for figures in found.values() for x in figures]
        if points:
            axes.plot(*zip(*points, strict=True), "o", label=READINGS[reading][0])
    axes.set_yticks(range(len(groups)), [textwrap.fill(name, 40) for name in groups], fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.4)
    axes.set(xlabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=7, ncols=len(table.readings), loc="lower left", bbox_to_anchor=(0, 1))


def _draw_growth(table: Table, records: Sequence[Record], axes: Any) -> None:
    for record in records:
        points = [(epoch["epoch"], epoch["mAP"]) for epoch in record["history"] if "mAP" in epoch]
        if points:
            label = f"{record['row']}, seed {record['seed']}"
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.set(xlabel="epoch", ylabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=5)
