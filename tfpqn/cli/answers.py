"""What a search found, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich.console
import rich.table
import typer

from tfpqn.cli.shared import console, error_console, one_line


def answer_files(files: list[Path], search: Callable[[Path], Any], as_json: bool) -> None:
    """Search with each file and print what is found.

    Args:
        files: What to search with.
        search: From a file to a `SearchResult`.
        as_json: Whether to print JSON rather than tables.

    Raises:
        OSError, TypeError, ValueError: A file cannot be searched with. The others are answered
            first; of several such files all but the last are named on stderr.
    """
    answers: list[dict[str, Any]] = []
    errors: list[Exception] = []
    for file in files:
        try:
            answers.extend(describe_answers(file, search(file)))
        except (OSError, TypeError, ValueError) as error:
            errors.append(error)
    if answers:
        print_answers(answers, as_json, console)
    for earlier in errors[:-1]:
        error_console.print(f"tfpqn: error: {one_line(earlier)}")
    if errors:
        raise errors[-1]


def tell_of_part(number: int, num_shards: int) -> None:
    """Say on stderr that a model answers for a part of a collection, if it does."""
    if num_shards > 1:
        error_console.print(
            f"The model is shard {number} of {num_shards}: its answers are of this part of the "
            "collection alone"
        )


def describe_answers(file: Path, result: Any) -> list[dict[str, Any]]:
    """The items in each row of a `SearchResult`, under the name of the file it is for.

    Of several rows each has its `row` in the file besides.
    """
    numbers = range(len(result.ids))
    rows = [{"row": row} for row in numbers] if len(numbers) > 1 else [{}]
    return [
        {"file": str(file), **place, "neighbours": _neighbours(result, row)}
        for row, place in zip(numbers, rows, strict=True)
    ]


def _neighbours(result: Any, row: int) -> list[dict[str, Any]]:
    outputs = {
        "id": result.ids,
        "score": result.scores,
        "label": result.labels,
        "match": result.matches,
    }
    count = result.num_found[row]
    columns = {
        name: values[row, :count].tolist() for name, values in outputs.items() if values is not None
    }
    return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]


def print_answers(
    answers: list[dict[str, Any]], as_json: bool, console: rich.console.Console
) -> None:
    """Print answers of `describe_answers`, a table each, or all as one JSON list."""
    if as_json:
        typer.echo(json.dumps(answers, indent=2))
        return
    for answer in answers:
        if answer["neighbours"]:
            console.print(_make_table(answer))
        else:
            console.print(f"{_title(answer)}: 0 items")


def _make_table(answer: dict[str, Any]) -> rich.table.Table:
    neighbours = answer["neighbours"]
    columns = list(neighbours[0])
    table = rich.table.Table("rank", *columns, title=_title(answer))
    for rank, neighbour in enumerate(neighbours, start=1):
        table.add_row(str(rank), *(_format(neighbour[column]) for column in columns))
    return table


def _title(answer: dict[str, Any]) -> str:
    return answer["file"] + (f", row {answer['row']}" if "row" in answer else "")


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
