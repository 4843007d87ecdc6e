"""Commands that make and tend a collection: code, grow, shrink and tidy it; judge its codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.console
import rich.progress
import rich.table
import typer

from tfpqn.cli.shared import (
    DataDir,
    ImagesFolder,
    NumFrames,
    ProtocolName,
    RunDir,
    VideosFolder,
    console,
    report_skipped,
)

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet
    from tfpqn.index import Growth, IndexReport

IndexFolder = Annotated[Path, typer.Option(help="Folder of the index.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

FOLDER_FRAMES = 16


def index(
    run_dir: RunDir,
    output: Annotated[Path, typer.Option(help="Folder of the index to write.")],
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    num_frames: NumFrames = None,
    data_dir: DataDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images coded at once.")] = 256,
    overwrite: Annotated[bool, typer.Option(help="Replace an index at --output.")] = False,
    add: Annotated[
        bool, typer.Option(help="Add to the index at --output; items it has are coded anew.")
    ] = False,
) -> None:
    from tfpqn.datasets import ImageFolder, open_clips
    from tfpqn.index import build_index
    from tfpqn.training import Run

    if sum(map(bool, (protocol, images, videos))) > 1:
        raise ValueError("Index one of --protocol, --images and --videos. Received: several")
    if add and overwrite:
        raise ValueError("Either add to the index or replace it. Received: --add and --overwrite")
    if output.exists() and not (overwrite or add):
        raise FileExistsError(
            "The output folder must not exist yet, unless --overwrite or --add is given. "
            f"Received: {str(output)!r}"
        )
    run = Run.open(run_dir)
    network = run.load_network()
    frames = num_frames or run.config.num_frames
    if images:
        collection: ImageSet = ImageFolder(images, network.image_shape)
    elif videos:
        collection = open_clips(videos, network.image_shape, frames or FOLDER_FRAMES)
    else:
        collection = run.load_splits(data_dir, protocol, num_frames).database
    network.require_item_shape(collection.item_shape)
    with rich.progress.Progress(console=rich.console.Console(stderr=True)) as bar:
        # Not shown before the first batch is through: an error should be one line.
        task = bar.add_task("Coding", total=len(collection), visible=False)
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "progress": lambda done: bar.update(task, completed=done, visible=True),
        }
        if add:
            growth = _add(network, collection, output, **options)
            summary = f"{growth.num_added:,} items added, {growth.num_updated:,} coded anew"
        else:
            num_items = build_index(network, collection, output, overwrite=overwrite, **options)
            summary = f"{num_items:,} items coded"
        bar.update(task, completed=len(collection))
    report_skipped(collection)
    console.print(f"{summary}. The index is in {output}")


def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of the items to remove.")],
    index: IndexFolder,
) -> None:
    from tfpqn.index import describe_index, remove_from_index

    before = describe_index(index)
    after = remove_from_index(index, _read_ids(ids, before.id_type))
    removed = before.num_items - after.num_items
    console.print(f"{removed:,} items removed, {after.num_items:,} left in {index}")


def compact(
    index: IndexFolder,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Most items in one file.")] = 1_000_000,
) -> None:
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
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    data_dir: DataDir = None,
    top_k: Annotated[int, typer.Option(min=1, help="Nearest items of each query.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the halves of the queries.")] = 0,
    as_json: AsJson = False,
) -> None:
    from tfpqn.training import Run, calibrate_run

    run = Run.open(run_dir)
    calibration = calibrate_run(
        run,
        run.load_network(),
        run.load_splits(data_dir, protocol, images=images, videos=videos),
        protocol,
        folder=images or videos,
        precision=precision,
        top_k=top_k,
        seed=seed,
    )
    if as_json:
        typer.echo(json.dumps(calibration, indent=2))
    else:
        _print_calibration(calibration)
        console.print(f"Written to {run.folder / 'calibration.json'}")


def _add(network: Any, collection: ImageSet, output: Path, **options: Any) -> Growth:
    """Add to an index; one with ids of another type is the user's error here, not the program's."""
    from tfpqn.index import add_to_index

    try:
        return add_to_index(network, collection, output, **options)
    except TypeError as error:
        raise ValueError(
            f"The items must have ids and labels of the index's types; a folder's ids are paths, a "
            f"protocol's are numbers. Received: {error}"
        ) from error


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
