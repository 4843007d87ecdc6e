"""The page of recorded results, from the records alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research.metrics import (
    AXES,
    METRICS,
    compares_metrics,
    find_figures,
    format_mean,
    group_rows,
    position_of,
    positions_of,
    title_line,
)
from research.pictures import draw_table
from research.records import Record, find_changes, read_records
from research.summary import format_summary
from research.table import Table
from tfpqn.files import foreign as foreign_files
from tfpqn.files.atomic import write_file_atomically
from tfpqn.training.recipes import Recipe

# Beside a run that was trained otherwise than its row is now.
FORMER_MARK = " †"
PAGE_WIDTH = 120
# Written by benchmarks/training_speed.py.
SPEED_FILE = "training-speed.json"


def find_page(results_dir: str | Path) -> Path:
    """Where the page on a folder of results is: beside it, under its name.

    Raises:
        ValueError: The folder has no name of its own, or another page is there.
    """
    folder = Path(results_dir)
    if folder.name in ("", ".."):
        raise ValueError(f"The folder of results must have a name. Received: {str(results_dir)!r}")
    page = folder.parent / f"{folder.name}.md"
    is_made = page.is_file() and MADE_BY.encode() in page.read_bytes()
    if page.exists() and not is_made:
        raise ValueError(
            f"The page of {str(results_dir)!r} would replace one that is not made of records; take "
            f"another folder. Received: {str(page)!r}"
        )
    return page


def write_report(tables: Sequence[Table], results_dir: str | Path, page: str | Path) -> None:
    """Write a page of Markdown on all tables that have records, and the pictures beside it."""
    page = Path(page)
    parts = ["# Results\n", INTRODUCTION]
    recorded = [(table, read_records(table, results_dir)) for table in tables]
    recorded = [(table, records) for table, records in recorded if records]
    parts.append(format_summary({table.name: (table, records) for table, records in recorded}))
    parts.append(LEGEND)
    parts += [format_table(table, records, f"{table.name}.png") for table, records in recorded]
    speed = read_speed(results_dir)
    if speed is not None:
        parts.append(format_speed(speed))
    page.parent.mkdir(parents=True, exist_ok=True)
    # Once all that could be refused has been.
    for table, records in recorded:
        draw_table(table, records, page.parent / f"{table.name}.png")
    lines = map(_wrap, "\n".join(parts).split("\n"))
    write_file_atomically(page, "\n".join(lines).encode())


def _wrap(line: str) -> str:
    """A line that is no table's, cut into some of at most `PAGE_WIDTH`."""
    if line.startswith("|"):
        return line
    indent = "  " * line.startswith("- ")
    return textwrap.fill(
        line, PAGE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def read_speed(results_dir: str | Path) -> Record | None:
    """The measured speeds of training in a folder of results; None where there are none.

    Raises:
        ValueError: The file holds something else.
    """
    path = Path(results_dir) / SPEED_FILE
    if not path.is_file():
        return None
    expected = "the speeds that benchmarks/training_speed.py writes"
    content = foreign_files.read_json(path, expected)
    with foreign_files.reading(path, expected):
        format_speed(content)
    return content


MADE_BY = "Made by `python -m research --report` from the records"
INTRODUCTION = f"""\
{MADE_BY}, one JSON file a run; do not edit.
The mAP is over the full ranking, of raw queries against codes; equally scored items count with the
expected value over their orders. A figure of several seeds is their mean, with the smallest and the
largest in brackets. All others are of one seed. Differences as small as those between seeds say
nothing, and how much seeds differ is known only where there are several. "Published" figures are
those of the papers' authors, of nets of their own.
"""
LEGEND = """\
## How to read the other tables

- A *soft item* is the mixture of codewords that training ranks in place of a code. Alpha says how
  near that mixture is to the nearest codeword.
- "Soft" is the mAP against soft items, "raw" that of the same network's embeddings without coding,
  "coded queries" that of a search from code to code. Recall@1 is the share of queries whose first
  item has their label.
- A row without a quantizer (`embedding`) has a mAP of codes too: of 24 bits, by codebooks that no
  loss has moved.
- The code may have changed since the commit that a run was trained at. `-dirty` says that changes
  were not committed then.
- Minutes are those of training, with the evaluations in it and without the row that a run starts
  from. Images a second are those of the median epoch, without evaluations. Some runs shared their
  machine with other work.
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
        _count_runs(names, wanted),
        "",
        *format_runs(table, records),
        "",
    ]
    return "\n".join(lines)


def _count_runs(recorded: set[tuple[str, int]], wanted: set[tuple[str, int]]) -> str:
    """How many runs of the recipes, and which others, have a record."""
    text = f"{len(recorded & wanted)} of {len(wanted)} runs that the recipes name have a record"
    if further := len(recorded - wanted):
        text += f", and {further} of other seeds"
    missing = ", ".join(f"`{row}`, {seed}" for row, seed in sorted(wanted - recorded))
    return f"{text}. Without one: {missing}." if missing else f"{text}."


def format_overview(table: Table, records: Sequence[Record], protocol: str) -> list[str]:
    """One line a group and metric, one column a value of the table's axis; several metrics at a
    single value have a column each."""
    columns = positions_of(table)
    if compares_metrics(table):
        return _format_metrics(table, records, protocol)
    title = AXES[table.axis]
    lines = [
        f"| {title} | " + " | ".join(f"{column:g}" for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for group, rows in group_rows(table).items():
        for metric in table.metrics:
            figures = find_figures(table, rows, records, protocol, metric)
            if figures:
                former = {
                    position_of(table, row) for row in rows if _has_former(table, row, records)
                }
                cells = [
                    format_mean(figures.get(column, [])) + FORMER_MARK * (column in former)
                    for column in columns
                ]
                lines.append(f"| {title_line(table, group, metric)} | " + " | ".join(cells) + " |")
        published = {position_of(table, row): row.published for row in rows if row.published}
        if published and protocol == table.protocols[0]:
            cells = [f"{published[c]:.3f}" if c in published else "" for c in columns]
            lines.append(f"| {group}, published | " + " | ".join(cells) + " |")
    return lines


def _format_metrics(table: Table, records: Sequence[Record], protocol: str) -> list[str]:
    lines = [
        "| | " + " | ".join(METRICS[metric][0] for metric in table.metrics) + " |",
        "|---|" + "---:|" * len(table.metrics),
    ]
    for group, rows in group_rows(table).items():
        figures = [find_figures(table, rows, records, protocol, name) for name in table.metrics]
        if any(figures):
            mark = FORMER_MARK * any(_has_former(table, row, records) for row in rows)
            cells = [format_mean([x for xs in one.values() for x in xs]) + mark for one in figures]
            lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return lines


def format_runs(table: Table, records: Sequence[Record]) -> list[str]:
    """One line a run."""
    lines = [
        "| row, seed | mAP | soft | raw | recall@1 | minutes | images/s | trained at |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for record in records:
        metrics = record["metrics"][table.protocols[0]]
        start = _name_start(record, records)
        mark = FORMER_MARK if find_changes(table, record, records) else ""
        in_half = ", in bfloat16" if _precision(record) == "mixed_bfloat16" else ""
        lines.append(
            f"| `{record['row']}`, {record['seed']}{start}{in_half}{mark} "
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


def _name_start(record: Record, records: Sequence[Record]) -> str:
    """The row that a run starts from; what it was is known if it is recorded, in its precision."""
    if record["start"] is None:
        return ""
    names = [(other["row"], other["seed"], _precision(other)) for other in records]
    is_known = (record["start"], record["seed"], _precision(record)) in names
    return f", from `{record['start']}`{'' if is_known else ', which has no record'}"


def _precision(record: Record) -> str:
    # Records from before the choice lack it.
    return str(record["settings"].get("precision", "float32"))


def _list_changes(table: Table, records: Sequence[Record]) -> list[str]:
    """A sentence on each kind of former recipe, naming its runs."""
    runs: dict[str, list[str]] = {}
    for record in records:
        changes = "; ".join(find_changes(table, record, records))
        if changes:
            runs.setdefault(changes, []).append(f"`{record['row']}`, {record['seed']}")
    return [
        f"† {' and '.join(names)} had other settings: {changes}." for changes, names in runs.items()
    ]


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
        "PQN of 24 bits, triplet loss and classifier, SGD, from memory, by `network.fit`, without",
        "reading and augmenting images: batches of 128 images of 32 x 32 pixels, and of 64 of",
        "224 x 224 for EfficientNet-Lite0, of which the last half of the layers is trained. The",
        "ratio is that to the first line of the network in the same round. On machines without",
        "lines for Keras's batch normalization all was measured with that, before the package had",
        "its own.",
        "",
    ]
    for machine in content["machines"]:
        lines += [
            f"`{machine['command']}`: {machine['hardware']}; load {machine['load_before']:.1f} "
            f"before the run; {_format_versions(machine)}.",
            "",
            "| network | backend and settings | images/s | ratio |",
            "|---|---|---:|---:|",
            *(
                f"| {row['network']} | {row['case']} | {row['images_per_second']:,.0f} "
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
