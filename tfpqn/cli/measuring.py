"""Commands that measure what a run has learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.table
import typer

from tfpqn._text import counted
from tfpqn.cli.shared import (
    AsJson,
    DataDir,
    ImagesFolder,
    LabelsTable,
    ProtocolName,
    RunDir,
    VectorsFile,
    VideosFolder,
    console,
)

if TYPE_CHECKING:
    from tfpqn.datasets import Splits
    from tfpqn.protocols import NetworkLike
    from tfpqn.training import Run

# Share of the mAP of raw embeddings below which codes lose too much.
FAR_BELOW = 0.8


def evaluate(
    run_dir: RunDir,
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    labels: LabelsTable = None,
    data_dir: DataDir = None,
) -> None:
    from tfpqn.training import evaluate_run

    sources = {"images": images, "videos": videos, "vectors": vectors, "labels": labels}
    opened = _open(run_dir, data_dir, protocol, **sources)
    metrics = evaluate_run(*opened, protocol, folder=images or videos or vectors)
    _print_metrics(metrics)
    console.print(f"Written to {opened[0].folder / 'metrics.json'}")


def report(
    run_dir: RunDir,
    output: Annotated[
        Path | None, typer.Option(help="The .html file to write; report.html in the run's folder.")
    ] = None,
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    labels: LabelsTable = None,
    data_dir: DataDir = None,
) -> None:
    from tfpqn.training import report_run

    sources = {"images": images, "videos": videos, "vectors": vectors, "labels": labels}
    opened = _open(run_dir, data_dir, protocol, **sources)
    path = report_run(*opened, output, source=protocol or images or videos or vectors)
    console.print(f"Written to {path}")


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
        return
    table = rich.table.Table("queries", "codes", "mAP")
    for name, mean in report["mAP"].items():
        queries, _, codes, _ = name.split("_")
        table.add_row(queries, codes, _format(mean))
    console.print(table)
    console.print(f"Codebooks: {'the same' if report['same_codebooks'] else 'others'}.")
    console.print(report["advice"])


def calibrate(
    run_dir: RunDir,
    precision: Annotated[
        float, typer.Option(help="Wanted share of right ones among the matches.")
    ] = 0.95,
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    labels: LabelsTable = None,
    data_dir: DataDir = None,
    top_k: Annotated[int, typer.Option(min=1, help="Nearest items of each query.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the halves of the queries.")] = 0,
    as_json: AsJson = False,
) -> None:
    from tfpqn.training import calibrate_run

    sources = {"images": images, "videos": videos, "vectors": vectors, "labels": labels}
    opened = _open(run_dir, data_dir, protocol, **sources)
    calibration = calibrate_run(
        *opened,
        protocol,
        folder=images or videos or vectors,
        precision=precision,
        top_k=top_k,
        seed=seed,
    )
    if as_json:
        typer.echo(json.dumps(calibration, indent=2))
        return
    table = rich.table.Table("queries", "pairs", "precision", "recall")
    for name in ("calibration", "held_out"):
        figures = calibration[name]
        shares = (_format(figures["precision"]), _format(figures["recall"]))
        table.add_row(name.replace("_", " "), f"{figures['pairs']:,}", *shares)
    console.print(table)
    distance = calibration["distance_threshold"]
    known = "" if distance is None else f", which is a distance of {distance:.6g} or less"
    console.print(f"A match has a score of {calibration['score_threshold']:.6g} or more{known}.")
    console.print(f"Written to {opened[0].folder / 'calibration.json'}")


def _open(
    run_dir: Path, data_dir: Path | None, protocol: str | None, **sources: Path | None
) -> tuple[Run, NetworkLike, Splits]:
    """A run, its network, and the items that it is measured on, which the network must take."""
    from tfpqn.training import Run

    run = Run.open(run_dir)
    network = run.load_network()
    splits = run.load_splits(data_dir, protocol, **sources)
    network.require_item_shape(splits.query.item_shape)
    return run, network, splits


def _format(share: float | None) -> str:
    return "-" if share is None else f"{share:.4f}"


def _print_neighbours(metrics: dict[str, Any], bits: str) -> None:
    """What can be said without labels: how many of the nearest items the codes find."""
    table = rich.table.Table("nearest by raw embeddings", "among the first", f"codes, {bits}")
    for name, share in metrics["neighbour_recall"].items():
        table.add_row(*name.split("@"), _format(share))
    console.print(table)
    console.print(
        f"mAP cannot be given: {metrics['not_measured']}. "
        f"{metrics['codebook_usage']:.1%} of the codewords are in use."
    )


def _print_metrics(metrics: dict[str, Any]) -> None:
    bits = f"{metrics['bits_per_code']:g} bits"
    if metrics["not_measured"]:
        _print_neighbours(metrics, bits)
        return
    raw = metrics["raw_embeddings"]
    title = f"{metrics['protocol']}: {metrics['description']}"
    table = rich.table.Table("", f"codes, {bits}", "raw embeddings", title=title)
    table.add_row("mAP", _format(metrics["mAP"]), _format(raw["mAP"]))
    for kind, prefix in (("mAP@R", "mAP@"), ("recall@k", "recall@"), ("NDCG@k", "NDCG@")):
        for cut, value in metrics.get(kind, {}).items():
            table.add_row(f"{prefix}{cut}", _format(value), _format(raw[kind][cut]))
    console.print(table)
    if metrics["mAP"] < FAR_BELOW * raw["mAP"]:
        console.print("Codes rank far below raw embeddings: try more --bits, or more --epochs.")
    for prefix in metrics["prefixes"]:
        console.print(
            f"The first {prefix['num_levels']} of {len(metrics['prefixes'])} levels, "
            f"{prefix['bits_per_code']:g} bits: mAP {prefix['mAP']:.4f}"
        )
    if metrics["unlabelled_queries"]:
        number = counted(metrics["unlabelled_queries"], "queries")
        console.print(f"Left out: {number} without a label.")
    console.print(f"Ties: {metrics['ties']}.")
