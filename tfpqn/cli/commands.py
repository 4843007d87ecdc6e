"""The commands. Each imports what it needs when it runs, so that the others start sooner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfpqn import __version__
from tfpqn.cli.collections import compact, encode, index, remove
from tfpqn.cli.exporting import export, verify
from tfpqn.cli.ingest.command import ingest
from tfpqn.cli.measuring import calibrate, compat, evaluate, report
from tfpqn.cli.query import query
from tfpqn.cli.search import search
from tfpqn.cli.serve import route, serve
from tfpqn.cli.shared import ImagesFolder, console
from tfpqn.cli.train import train

# Texts of help are given as such: PYTHONOPTIMIZE=2 takes docstrings away.
app = typer.Typer(
    help="Product quantization networks: train, index, evaluate, export, search, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"tfpqn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of no command."""


def demo(
    model: Annotated[str, typer.Option(help="Kind of network: pqn, rpqn or tpqn (clips).")] = "pqn",
    output: Annotated[
        Path | None, typer.Option(help="Folder for all that the demo makes: tfpqn-demo.")
    ] = None,
    images: ImagesFolder = None,
    weights: Annotated[
        str | None, typer.Option(help="For --images: weights of a trained backbone, as of train.")
    ] = None,
) -> None:
    from tfpqn.cli.demo.run_demo import run_demo

    if weights and not images:
        raise ValueError(f"--weights is for --images alone. Received: {weights!r}")
    # Each kind in a folder of its own, unless told: their runs have different settings.
    kind = "-photos" if images else ""
    kind += "" if model == "pqn" else f"-{model}"
    run_demo(output or Path(f"tfpqn-demo{kind}"), model, console, images, weights)


for command, text in (
    (demo, "Train on digits, moving ones (tpqn) or --images; evaluate, export, search, draw."),
    (train, "Train a network; started again after a kill, it goes on where it stopped."),
    (
        index,
        "Code a collection: the run's own database, a protocol's, or other images, clips, vectors.",
    ),
    (encode, "Code a collection with Apache Beam, on one machine or on many."),
    (evaluate, "Rank the database for each query; print the figures and write metrics.json."),
    (
        report,
        "Write a page of figures and examples of what the run's codes find and miss.",
    ),
    (export, "Write network and index as one SavedModel for TensorFlow Serving."),
    (
        ingest,
        "Code what comes, and export an index that grows: small deltas, now and then a base.",
    ),
    (
        verify,
        "Check a version folder: files, ops, codebooks, and that three readers load and answer it.",
    ),
    (search, "Search an exported model, in plain TensorFlow, with images, clips or vectors."),
    (
        serve,
        "Serve a model by gRPC and REST as TensorFlow Serving does: for development and tests.",
    ),
    (route, "Serve the shards of a model as one: for clients in other languages."),
    (query, "Search a served model, by gRPC or REST, with images, clips or vectors."),
    (remove, "Remove items from an index; the others keep their order."),
    (
        compact,
        "Rewrite an index of many small files into few full ones, with the same contents.",
    ),
    (compat, "Measure how old codes rank under a new network: is re-encoding due?"),
    (calibrate, "Find the score from which on a neighbour is a match; write calibration.json."),
):
    app.command(help=text)(command)
