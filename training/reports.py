"""Tables and pictures of recorded results, from the records alone."""

from __future__ import annotations

import dataclasses
import io
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
# Beside a run that was trained otherwise than its row is now.
FORMER_MARK = " †"
# Written by benchmarks/training_speed.py.
SPEED_FILE = "training-speed.json"
# What the page takes of a record.
RECORDED = {
    "table", "row", "seed", "start", "settings", "history", "metrics", "training_seconds",
    "commit", "versions", "hardware", "backend",
}  # fmt: skip
NO_RECORD = (
    "{} must be a record of `tfpqn reproduce`, of the table and row that its place says. Received:"
)
# Pixels of a picture for a screen.
PIXELS_PER_INCH = 110


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
        place = (record["table"], f"{record['row']}-{record['seed']}")
        metrics = [record["metrics"][name] for name in table.protocols]
        complete = all("mAP" in figures for figures in metrics) and RECORDED <= set(record)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{NO_RECORD.format(path)} {type(error).__name__}: {error}") from error
    if place != (table.name, path.stem) or not complete:
        raise ValueError(f"{NO_RECORD.format(path)} one of {'/'.join(place)}")
    return record


def find_page(results_dir: str | Path) -> Path:
    """Where the page on a folder of results is: beside it, under its name.

    Raises:
        ValueError: The folder has no name of its own, or another page is there.
    """
    folder = Path(results_dir)
    if not folder.name:
        raise ValueError(f"The folder of results must have a name. Received: {str(results_dir)!r}")
    page = folder.parent / f"{folder.name}.md"
    if page.is_file() and MADE_BY not in page.read_text(encoding="utf-8"):
        raise ValueError(
            f"The page of {str(results_dir)!r} would replace one that is not made of records; take "
            f"another folder. Received: {str(page)!r}"
        )
    return page


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


MADE_BY = "Made by `tfpqn reproduce` from the records"
INTRODUCTION = f"""\
{MADE_BY}, one JSON file a run; do not edit. The mAP is over the
full ranking, raw query against hard codes; equally scored items count with the expected value over
their orders. "Soft" is the mAP against items reconstructed as in training, "raw" that of the same
network's embeddings without coding, "coded queries" that of a search from code to code. A figure of
several seeds is their mean, with the smallest and the largest in brackets; all others are of one
seed, and differences as small as those between seeds say nothing. "Published" figures are those of
the paper's authors. What is marked † was trained otherwise than the text says: what its recipe had
then stands below. The code may have changed too since the commit that a run was trained at. Minutes
are without those of the row that a run starts from; images a second are those of the median epoch,
evaluations left out.
"""


def format_table(table: Table, records: Sequence[Record], picture: str) -> str:
    """A section on one table."""
    lines = [f"## {table.title}", "", table.text, ""]
    for protocol in table.protocols:
        lines += [f"mAP, `{protocol}`:", "", *format_overview(table, records, protocol), ""]
    names = {(record["row"], record["seed"]) for record in records}
    wanted = {(row.name, seed) for row in table.rows for seed in row.seeds}
    lines += [
        f"![mAP, {table.title}]({picture})",
        "",
        f"Of the {len(wanted)} runs that the recipes name, {len(names & wanted)} are recorded.",
        "",
        *format_runs(table, records),
        "",
    ]
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
                former = {_position(table, row) for row in rows if _has_former(table, row, records)}
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
            mark = FORMER_MARK * any(_has_former(table, row, records) for row in rows)
            cells = [format_mean([x for xs in one.values() for x in xs]) + mark for one in figures]
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
        mark = FORMER_MARK if find_changes(table, record, records) else ""
        lines.append(
            f"| `{record['row']}`, {record['seed']}{start}{_name_precision(record)}{mark} "
            f"| {metrics['mAP']:.4f} "
            f"| {metrics['soft_items']['mAP']:.4f} | {metrics['raw_embeddings']['mAP']:.4f} "
            f"| {metrics['recall@k']['1']:.4f} | {record['training_seconds'] / 60:.0f} "
            f"| {_format_speed(record)} | {record['commit'] or record['versions']['tfpqn']} |"
        )
    places = sorted({_describe_place(record) for record in records})
    return [
        *lines,
        "",
        *(f"- {place}" for place in places),
        *(f"- {changes}" for changes in _list_changes(table, records)),
    ]


def _name_precision(record: Record) -> str:
    """What training computed in, if that is not what its settings want."""
    wanted = record["settings"].get("precision")
    # Records from before the choice lack it.
    taken = record.get("precision", wanted)
    return "" if taken == wanted else f", in {taken}"


def find_changes(table: Table, record: Record, records: Sequence[Record]) -> list[str]:
    """What a run, or the run that it starts from, had otherwise than its row has now.

    A setting that is younger than the record had its default then.
    """
    row = table.find(record["row"])
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    changes = [
        f"{name} {former}, now {value}"
        for name, value in row.settings().items()
        if (former := record["settings"].get(name, defaults[name])) != value
    ]
    if record["start"] != row.start:
        return [*changes, f"start {record['start']}, now {row.start}"]
    return changes + [
        f"that of its start `{start['row']}`: {change}"
        for start in records
        if (start["row"], start["seed"]) == (row.start, record["seed"])
        for change in find_changes(table, start, records)
    ]


def _list_changes(table: Table, records: Sequence[Record]) -> list[str]:
    """A sentence on each kind of former recipe, naming its runs."""
    runs: dict[str, list[str]] = {}
    for record in records:
        changes = "; ".join(find_changes(table, record, records))
        if changes:
            runs.setdefault(changes, []).append(f"`{record['row']}`, {record['seed']}")
    return [f"† {' and '.join(names)}: {changes}." for changes, names in runs.items()]


def _has_former(table: Table, row: Recipe, records: Sequence[Record]) -> bool:
    return any(
        record["row"] == row.name and bool(find_changes(table, record, records))
        for record in records
    )


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


def _format_speed(record: Record) -> str:
    """Training images a second, each view counted, of the median epoch without an evaluation."""
    seconds = [epoch["seconds"] for epoch in record["history"] if "mAP" not in epoch]
    number = record["metrics"][record["settings"]["protocol"]]["splits"]["train"]["num_images"]
    number *= record["settings"].get("views", 1)
    return f"{number / float(np.median(seconds)):,.0f}" if seconds else ""


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
    content = io.BytesIO()
    figure.savefig(content)
    write_file_atomically(path, content.getvalue())


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
