"""The command that runs the rows of a table again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.table
import typer

from tfpqn.cli.entry_point import main as run
from tfpqn.cli.shared import DataDir, console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    help="Run rows of a table of results again; write their records, and the page made from them."
)
def reproduce(
    table: Annotated[
        str | None,
        typer.Argument(help="Name of the table, such as cifar10-p1; a wrong one lists all."),
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option(help="Row to run, such as pqn-24; repeatable. All rows.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed to run with; repeatable. Those of the row.")
    ] = None,
    data_dir: DataDir = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("runs"),
    results_dir: Annotated[
        Path | None,
        typer.Option(help="Where the records go: results; with --report docs/results."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only list the rows.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the page from the records.")
    ] = False,
) -> None:
    from research.records import read_records
    from research.reports import find_page, read_speed, write_report
    from research.reproduction import reproduce as reproduce_rows
    from research.tables import TABLES, find_table

    results_dir = results_dir or Path("docs/results" if report else "results")
    if table is None and not report:
        raise ValueError("A table must be named, unless --report is given. Received: none")
    chosen = find_table(table) if table else None
    if show and chosen:
        listing = rich.table.Table(title=chosen.title)
        for column in ("row", "group", "bits", "epochs", "seeds"):
            listing.add_column(column)
        for row in chosen.rows:
            seeds = ", ".join(map(str, row.seeds))
            bits, epochs = row.config.model.bits, row.config.optimization.epochs
            listing.add_row(row.name, row.group or "", str(bits), str(epochs), seeds)
        console.print(listing)
        return
    page = find_page(results_dir)
    if report and not results_dir.is_dir():
        raise FileNotFoundError(
            f"--results-dir must be a folder of records. Received: {str(results_dir)!r}"
        )
    # What would keep the page from being made is said before hours of training.
    for every in TABLES.values():
        read_records(every, results_dir)
    read_speed(results_dir)
    if chosen and not report:
        reproduce_rows(
            chosen,
            rows,
            seed,
            data_dir=data_dir,
            runs_dir=runs_dir,
            results_dir=results_dir,
            say=lambda sentence: console.print(sentence, highlight=False, soft_wrap=True),
        )
    write_report(list(TABLES.values()), results_dir, page)
    console.print(f"The page is {page}", highlight=False)


def main() -> None:
    """Run the command; a user's error is one line and status 2, as of `tfpqn`."""
    run(app)
