"""The commands. Each imports what it needs when it runs, so that the others start sooner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.table
import typer

from tfpqn import __version__
from tfpqn.cli.answers import describe_answer, print_answers
from tfpqn.cli.collections import calibrate, compact, compat, index, remove
from tfpqn.cli.exporting import export, verify
from tfpqn.cli.query import query
from tfpqn.cli.serve import serve
from tfpqn.cli.settings import read_settings, setting
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
    from tfpqn.training import RunConfig

# What a recipe leaves open.
NOT_IN_RECIPES = frozenset(
    ("run_dir", "recipe", "seed", "initial_run", "weights", "data_dir")
    + ("checkpoint_every", "evaluate_every")
)

# Texts of help are given as such: PYTHONOPTIMIZE=2 takes docstrings away.
app = typer.Typer(
    help="Product quantization networks: train, index, evaluate, export, search, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DEFAULT_PROTOCOLS = {"tpqn": "moving-digits"}


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"tfpqn {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of no command."""


@app.command(
    help="Train on digits (tpqn: on moving ones), evaluate, export, search; draw a picture."
)
def demo(
    model: Annotated[str, typer.Option(help="Kind of network: pqn, rpqn or tpqn (clips).")] = "pqn",
    output: Annotated[
        Path | None, typer.Option(help="Folder for all that the demo makes: tfpqn-demo.")
    ] = None,
) -> None:
    from tfpqn.cli.demo import run_demo

    # Each kind in a folder of its own, unless told: their runs have different settings.
    run_demo(
        output or Path("tfpqn-demo" if model == "pqn" else f"tfpqn-demo-{model}"), model, console
    )


@app.command(help="Train a network; started again after a kill, it goes on where it stopped.")
def train(
    context: typer.Context,
    run_dir: RunDir,
    recipe: Annotated[
        str | None,
        typer.Option(help="Settings of a row of a table, TABLE/ROW: cifar10-p1/pqn-24."),
    ] = None,
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    image_size: Annotated[
        int | None, setting("image_size", "Side that a folder's images get.")
    ] = None,
    num_frames: NumFrames = None,
    model: Annotated[
        str | None, setting("model", "Kind of network: pqn, rpqn (residual) or tpqn (of clips).")
    ] = None,
    bits: Annotated[
        int | None, setting("bits", "Bits per code, a multiple of its positions.")
    ] = None,
    num_levels: Annotated[
        int | None, typer.Option(help="Residual levels: 2 with rpqn, else 1.")
    ] = None,
    num_subspaces: Annotated[
        int | None, typer.Option(help="Codebooks in a level, of a segment; for 4 positions in all.")
    ] = None,
    num_segments: Annotated[
        str | None,
        setting("num_segments", "Segments of a clip; 1,2,4 for a temporal pyramid."),
    ] = None,
    share_codebooks: Annotated[
        bool | None,
        typer.Option("--share-codebooks", help="Use the same codebooks in all segments."),
    ] = None,
    straight_through: Annotated[
        str | None,
        typer.Option(help="Hard values in training, with levels: none, residuals or all."),
    ] = None,
    level_loss_weight: Annotated[
        float | None, setting("level_loss_weight", "Weight of the loss on the first levels alone.")
    ] = None,
    embedding_dim: Annotated[
        int | None, setting("embedding_dim", "Length of the embedding.")
    ] = None,
    backbone: Annotated[
        str | None,
        setting("backbone", "conv3, resnet9, resnet20, alexnet, or one of keras.applications."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="imagenet, or a file, for a keras.applications model.")
    ] = None,
    initial_run: Annotated[
        Path | None, typer.Option(help="Trained run whose backbone and embedding are the start.")
    ] = None,
    freeze_codebooks: Annotated[
        bool | None,
        typer.Option(
            "--freeze-codebooks",
            help="Keep the initial run's codebooks, so that its codes stay valid.",
        ),
    ] = None,
    alpha: Annotated[float | None, setting("alpha", "Hardness of the soft assignment.")] = None,
    loss_form: Annotated[str | None, setting("loss_form", "sigmoid, softplus or hinge.")] = None,
    loss_scale: Annotated[
        float | None, setting("loss_scale", "Factor on the score difference.")
    ] = None,
    loss_margin: Annotated[
        float | None, setting("loss_margin", "Added to the scaled difference.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="At its largest: 0.001, with sgd 0.1; a tenth of that from trained weights."
        ),
    ] = None,
    epochs: Annotated[int | None, setting("epochs", "Passes over the training images.")] = None,
    batch_size: Annotated[int | None, setting("batch_size", "Images per step.")] = None,
    augment: Annotated[
        bool | None,
        typer.Option(
            "--augment/--no-augment", help="Flip and shift the images at random. On by default."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, any other setting of a run; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    data_dir: DataDir = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    evaluate_every: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs between evaluations of at most 1,000 queries."),
    ] = None,
) -> None:
    from tfpqn.training import Run, RunConfig
    from tfpqn.training import train as train_run

    named = read_settings(settings or (), RunConfig, with_option=context.params)
    if recipe is not None:
        config = _read_recipe(context, recipe, seed, initial_run, weights)
        config = dataclasses.replace(config, **named)
    else:
        if not (protocol or images or videos):
            protocol = DEFAULT_PROTOCOLS.get(model or "pqn", "digits")
        given = {
            "protocol": protocol,
            "images": images and str(images),
            "videos": videos and str(videos),
            "initial_run": initial_run and str(initial_run),
            "num_segments": num_segments and _read_segments(num_segments),
        }
        options = {**context.params, **given, **named}
        names = [field.name for field in dataclasses.fields(RunConfig)]
        chosen = {name: options[name] for name in names if options.get(name) is not None}
        # Left out, it would be the protocol of a run without a folder.
        config = RunConfig(**{"protocol": None, **chosen})
    run = Run.start(run_dir, config)
    if run.config.earlier_epochs != config.earlier_epochs:
        console.print(
            f"The run ended with epoch {run.config.earlier_epochs[-1]} and goes on to "
            f"{run.config.epochs}, at the learning rates that a run of so many has from there.",
            soft_wrap=True,
        )
    if config.initial_run and not run.has_begun:
        # Said before the data is read.
        Run.open(config.initial_run)
    splits = run.load_splits(data_dir)
    report_skipped(splits.train)
    train_run(run, splits, checkpoint_every=checkpoint_every, evaluate_every=evaluate_every)
    console.print(f"Trained. The network is in {run.folder / 'network.keras'}", soft_wrap=True)


app.command(
    help="Code a collection: the run's own database, a protocol's, or a folder of images or videos."
)(index)


@app.command(help="Rank the database for each query; print the figures and write metrics.json.")
def evaluate(
    run_dir: RunDir,
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    data_dir: DataDir = None,
) -> None:
    from tfpqn.training import Run, evaluate_run

    run = Run.open(run_dir)
    network = run.load_network()
    splits = run.load_splits(data_dir, protocol, images=images, videos=videos)
    metrics = evaluate_run(run, network, splits, protocol, folder=images or videos)
    _print_metrics(metrics)
    console.print(f"Written to {run.folder / 'metrics.json'}")


app.command(help="Write network and index as one SavedModel for TensorFlow Serving.")(export)
app.command(
    help="Check a version folder: files, ops, codebooks, and that three readers load and answer it."
)(verify)


@app.command(help="Search an exported model, in plain TensorFlow, with images or clips.")
def search(
    files: Annotated[
        list[Path],
        typer.Argument(help="Image files; of clips video files, or folders of frames."),
    ],
    model: Annotated[Path, typer.Option(help="Version folder: models/NAME/VERSION.")],
    num_frames: Annotated[
        int, typer.Option(min=1, help="Frames taken of a video file, best as in training.")
    ] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from tfpqn.cli.queries import read_query
    from tfpqn.datasets import plain_sentence
    from tfpqn.export import StatusError, load_searcher

    searcher = load_searcher(model)
    queries = [read_query(file, searcher.items, num_frames) for file in files]
    answers = []
    for file, item in zip(files, queries, strict=True):
        try:
            answers.append(describe_answer(file, searcher([item])))
        except StatusError as error:
            raise ValueError(f"{file}: {plain_sentence(error.message)}") from error
    print_answers(answers, as_json, console)


app.command(
    help="Serve a model by gRPC and REST as TensorFlow Serving does: for development and tests."
)(serve)
app.command(help="Search a served model, by gRPC or REST, with images or clips.")(query)
app.command(help="Remove items from an index; the others keep their order.")(remove)
app.command(
    help="Rewrite an index of many small files into few full ones, with the same contents."
)(compact)
app.command(help="Measure how old codes rank under a new network: is re-encoding due?")(compat)
app.command(help="Find the score from which on a neighbour is a match; write calibration.json.")(
    calibrate
)


def _read_recipe(
    context: typer.Context, path: str, seed: int, initial_run: Path | None, weights: str | None
) -> RunConfig:
    """The settings of a recipe, which no other option changes but where the weights come from."""
    from tfpqn.training.recipes import find_recipe

    recipe = find_recipe(path)
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [
        name
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE" and name not in NOT_IN_RECIPES
    ]
    if given:
        names = {option.name: option.opts[0] for option in context.command.params}
        options = ", ".join(names[name] for name in given)
        raise ValueError(f"--recipe settles all settings. Received: {options} as well")
    if (recipe.start is None) != (initial_run is None):
        wanted = f"--initial-run, a run of {recipe.start!r}" if recipe.start else "no --initial-run"
        raise ValueError(f"The recipe {path!r} needs {wanted}. Received: {initial_run}")
    config = recipe.config_of(seed, None if initial_run is None else str(initial_run))
    if weights is None:
        return config
    if config.weights is None:
        raise ValueError(f"The recipe {path!r} starts from no weights. Received: {weights!r}")
    return dataclasses.replace(config, weights=weights)


def _read_segments(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            "--num-segments must be a number, or several with commas between them, as in 1,2,4. "
            f"Received: {text!r}"
        ) from None


def _print_metrics(metrics: dict[str, Any]) -> None:
    bits = f"{metrics['bits_per_code']:g} bits"
    if metrics["not_measured"]:
        used = f"{metrics['codebook_usage']:.1%} of the codewords are in use"
        console.print(
            f"mAP and recall cannot be given: {metrics['not_measured']}. Codes of {bits}: {used}.",
            highlight=False,
        )
        return
    table = rich.table.Table(title=f"{metrics['protocol']}: {metrics['description']}")
    for column in ("", f"codes, {bits}", "raw embeddings"):
        table.add_column(column)
    raw = metrics["raw_embeddings"]
    table.add_row("mAP", f"{metrics['mAP']:.4f}", f"{raw['mAP']:.4f}")
    for kind, prefix in (("mAP@R", "mAP@"), ("recall@k", "recall@")):
        for cut, value in metrics[kind].items():
            table.add_row(f"{prefix}{cut}", f"{value:.4f}", f"{raw[kind][cut]:.4f}")
    console.print(table)
    for prefix in metrics["prefixes"]:
        console.print(
            f"The first {prefix['num_levels']} of {len(metrics['prefixes'])} levels, "
            f"{prefix['bits_per_code']:g} bits: mAP {prefix['mAP']:.4f}"
        )
    if metrics["unlabelled_queries"]:
        console.print(f"{metrics['unlabelled_queries']:,} queries have no label and are left out.")
    console.print(f"Ties: {metrics['ties']}.")
