"""The command that runs the rows of a table again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.table
import typer

from tfpqn.cli.shared import DataDir, console


def reproduce(
    table: Annotated[
        str, typer.Argument(help="Name of the table, such as cifar10-p1; a wrong one lists all.")
    ],
    rows: Annotated[
        list[str] | None, typer.Option(help="Row to run, such as pqn-24; repeatable. All rows.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed to run with; repeatable. Those of the row.")
    ] = None,
    data_dir: DataDir = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("runs"),
    results_dir: Annotated[
        Path, typer.Option(help="Where the records go; the page is beside it.")
    ] = Path("results"),
    show: Annotated[bool, typer.Option("--list", help="Only list the rows.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the page from the records.")
    ] = False,
) -> None:
    from tfpqn.training import reproduce as reproduce_rows
    from tfpqn.training.recipes import find_table, table_names
    from tfpqn.training.records import read_records
    from tfpqn.training.reports import find_page, read_speed, write_report

    chosen = find_table(table)
    if show:
        listing = rich.table.Table(title=chosen.title)
        for column in ("row", "group", "bits", "epochs", "seeds"):
            listing.add_column(column)
        for row in chosen.rows:
            seeds = ", ".join(map(str, row.seeds))
            bits, epochs = row.config.bits, row.config.epochs
            listing.add_row(row.name, row.group or "", str(bits), str(epochs), seeds)
        console.print(listing)
        return
    page = find_page(results_dir)
    if report and not results_dir.is_dir():
        raise FileNotFoundError(
            f"--results-dir must be a folder of records. Received: {str(results_dir)!r}"
        )
    # What would keep the page from being made is said before hours of training.
    for name in table_names():
        read_records(find_table(name), results_dir)
    read_speed(results_dir)
    if not report:
        reproduce_rows(
            chosen,
            rows,
            seed,
            data_dir=data_dir,
            runs_dir=runs_dir,
            results_dir=results_dir,
            say=lambda sentence: console.print(sentence, highlight=False, soft_wrap=True),
        )
    write_report([find_table(name) for name in table_names()], results_dir, page)
    console.print(f"The page is {page}", highlight=False)
