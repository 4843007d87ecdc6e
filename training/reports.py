"""Tables and pictures of recorded results, from the records alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpqn.files import write_file_atomically

from .recipes import Recipe, Table

Record = dict[str, Any]


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
            draw_growth(table, records, picture)
            parts.append(format_table(table, records, picture.name))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(page, "\n".join(parts).encode())


INTRODUCTION = """\
Made by `tfpqn reproduce` from the records, one JSON file a run; do not edit. The mAP is over the
full ranking, raw query against hard codes; equally scored items count with the expected value over
their orders. "Soft" is the mAP against items reconstructed as in training, "raw" that of the same
network's embeddings without coding. A figure of several seeds is their mean, with the smallest and
the largest in brackets. "Published" figures are those of the paper's authors.
"""


def format_table(table: Table, records: Sequence[Record], picture: str) -> str:
    """A section on one table."""
    lines = [f"## {table.title}", "", table.text, ""]
    for protocol in table.protocols:
        lines += [f"mAP, `{protocol}`:", "", *format_overview(table, records, protocol), ""]
    lines += [f"![mAP by epoch, {table.title}]({picture})", "", *format_runs(table, records), ""]
    return "\n".join(lines)


def format_overview(table: Table, records: Sequence[Record], protocol: str) -> list[str]:
    """One line a group, one column a bit length."""
    columns = sorted({row.config.bits for row in table.rows})
    lines = [
        "| | " + " | ".join(f"{bits} bits" for bits in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for group in dict.fromkeys(row.group for row in table.rows if row.group is not None):
        rows = [row for row in table.rows if row.group == group]
        cells = [_format_cell(rows, bits, records, protocol) for bits in columns]
        if any(cells):
            lines.append(f"| {group} | " + " | ".join(cells) + " |")
        published = {row.config.bits: row.published for row in rows if row.published is not None}
        if published and protocol == table.protocols[0]:
            figures = [f"{published[bits]:.3f}" if bits in published else "" for bits in columns]
            lines.append(f"| {group}, published | " + " | ".join(figures) + " |")
    return lines


def _format_cell(
    rows: Sequence[Recipe], bits: int, records: Sequence[Record], protocol: str
) -> str:
    names = [row.name for row in rows if row.config.bits == bits]
    figures = [
        record["metrics"][protocol]["mAP"]
        for record in records
        if record["row"] in names and protocol in record["metrics"]
    ]
    return format_mean(figures)


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
        lines.append(
            f"| `{record['row']}`, {record['seed']}{start} | {metrics['mAP']:.4f} "
            f"| {metrics['soft_items']['mAP']:.4f} | {metrics['raw_embeddings']['mAP']:.4f} "
            f"| {metrics['recall@k']['1']:.4f} | {record['training_seconds'] / 60:.0f} "
            f"| {_format_speed(record)} | {record['commit'] or record['versions']['tfpqn']} |"
        )
    places = sorted({_describe_place(record) for record in records})
    return [*lines, "", *(f"- {place}" for place in places)]


def _format_speed(record: Record) -> str:
    """Training images a second, of the fastest epoch: evaluations and other work take time too."""
    seconds = [epoch["seconds"] for epoch in record["history"] if "mAP" not in epoch]
    number = record["metrics"][record["settings"]["protocol"]]["splits"]["train"]["num_images"]
    return f"{number / min(seconds):,.0f}" if seconds else ""


def _describe_place(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{record['hardware']}, backend {record['backend']}; {versions}."


def draw_growth(table: Table, records: Sequence[Record], path: Path) -> None:
    """mAP of hard codes by epoch, one line a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    for record in records:
        points = [(epoch["epoch"], epoch["mAP"]) for epoch in record["history"] if "mAP" in epoch]
        if points:
            label = f"{record['row']}, seed {record['seed']}"
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.set(xlabel="epoch", ylabel=f"mAP, {table.protocols[0]}")
    if axes.lines:
        axes.legend(fontsize=7)
    figure.savefig(path)
