"""Commands that tend a collection: shrink it, tidy it, judge whether it still fits its network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.console
import rich.table
import typer

if TYPE_CHECKING:
    from tfpqn.index import IndexReport

IndexFolder = Annotated[Path, typer.Option(help="Folder of the index.")]
RunDir = Annotated[Path, typer.Option(help="Folder of the training run.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of tensorflow-datasets' prepared data sets.")
]
ProtocolName = Annotated[
    str | None, typer.Option(help="Protocol to take queries and database of; the run's own.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

console = rich.console.Console()


def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of the items to remove.")],
    index: IndexFolder,
) -> None:
    """Remove items from an index; the others keep their order."""
    from tfpqn.index import describe_index, remove_from_index

    before = describe_index(index)
    after = remove_from_index(index, _read_ids(ids, before.id_type))
    removed = before.num_items - after.num_items
    console.print(f"{removed:,} items removed, {after.num_items:,} left in {index}")


def compact(
    index: IndexFolder,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Most items in one file.")] = 1_000_000,
) -> None:
    """Rewrite an index of many small files into few full ones, with the same contents."""
    from tfpqn.index import compact_index, describe_index

    before = describe_index(index)
    after = compact_index(index, rows_per_part=rows_per_part)
    console.print(
        f"{after.num_items:,} items: {_describe_size(before)} became {_describe_size(after)}"
    )


def compat(
    old: Annotated[Path, typer.Argument(help="Folder of the run that coded the collection.")],
    new: Annotated[Path, typer.Argument(help="Folder of the run that is to search it.")],
    protocol: ProtocolName = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure how old codes rank under a new network: is re-encoding due?"""
    from tfpqn.training import Run, compare_networks

    runs = [Run.open(folder) for folder in (old, new)]
    networks = [run.load_network() for run in runs]
    report = compare_networks(*networks, runs[1].load_splits(data_dir, protocol))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_compatibility(report)


def calibrate(
    run_dir: RunDir,
    precision: Annotated[
        float, typer.Option(help="Wanted share of right ones among the matches.")
    ] = 0.95,
    protocol: ProtocolName = None,
    data_dir: DataDir = None,
    top_k: Annotated[int, typer.Option(min=1, help="Nearest items of each query.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the halves of the queries.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Find the score from which on a neighbour is a match; write calibration.json."""
    from tfpqn.training import Run, calibrate_run

    run = Run.open(run_dir)
    calibration = calibrate_run(
        run,
        run.load_network(),
        run.load_splits(data_dir, protocol),
        protocol,
        precision=precision,
        top_k=top_k,
        seed=seed,
    )
    if as_json:
        typer.echo(json.dumps(calibration, indent=2))
    else:
        _print_calibration(calibration)
        console.print(f"Written to {run.folder / 'calibration.json'}")


def _read_ids(ids: list[str], id_type: str) -> list[Any]:
    if id_type == "string":
        return list(ids)
    try:
        return [int(id_) for id_ in ids]
    except ValueError:
        raise ValueError(
            f"The ids must be whole numbers, as the index has them. Received: {ids}"
        ) from None


def _describe_size(report: IndexReport) -> str:
    return f"{report.num_parts:,} files of {report.num_bytes:,} bytes"


def _print_compatibility(report: dict[str, Any]) -> None:
    table = rich.table.Table("queries", "codes", "mAP")
    for name, mean in report["mAP"].items():
        queries, _, codes, _ = name.split("_")
        table.add_row(queries, codes, "-" if mean is None else f"{mean:.4f}")
    console.print(table)
    console.print(f"Codebooks: {'the same' if report['same_codebooks'] else 'others'}.")
    console.print(report["advice"], highlight=False)


def _print_calibration(calibration: dict[str, Any]) -> None:
    table = rich.table.Table("queries", "pairs", "precision", "recall")
    for name in ("calibration", "held_out"):
        figures = calibration[name]
        shares = (figures["precision"], figures["recall"])
        table.add_row(
            name.replace("_", " "),
            f"{figures['pairs']:,}",
            *("-" if share is None else f"{share:.4f}" for share in shares),
        )
    console.print(table)
    console.print(
        f"A match has a score of {calibration['score_threshold']:.6g} or more, which is a distance "
        f"of {calibration['distance_threshold']:.6g} or less."
    )
