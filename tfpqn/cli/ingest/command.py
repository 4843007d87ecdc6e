"""The command: its options, and what they open."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfpqn.cli.exporting import (
    Agreement,
    MaxBatchSize,
    MaxPixels,
    NumLevels,
    NumProbes,
    Partition,
    Tags,
    TopK,
    choose_answers,
    choose_figures,
    choose_lists,
    require_lists_for,
)
from tfpqn.cli.shared import DataDir, ImagesFolder, LabelsTable, RunDir, VectorsFile, VideosFolder

if TYPE_CHECKING:
    from tfpqn.cli.ingest.arrivals import Arrivals
    from tfpqn.export.ingest.growing_model import GrowingModel
    from tfpqn.training import Run


def ingest(
    run_dir: RunDir,
    index: Annotated[Path, typer.Option(help="Folder of the index; it must exist.")],
    output: Annotated[
        Path,
        typer.Option(help="The model, models/NAME: NAME-shard-0-of-1 and NAME-delta are made."),
    ],
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    labels: LabelsTable = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames taken of each clip: as in training.")
    ] = None,
    watch: Annotated[
        float | None, typer.Option(min=0.1, help="Look again after so many seconds, without end.")
    ] = None,
    new_base_after: Annotated[
        int, typer.Option(min=1, help="Items that come or change before the next base is exported.")
    ] = 50_000,
    shards: Annotated[int, typer.Option(min=1, help="Servers that hold a base together.")] = 1,
    top_k: TopK = 10,
    num_levels: NumLevels = None,
    tags: Tags = None,
    partition: Partition = None,
    num_probes: NumProbes = None,
    agreement: Agreement = None,
    data_dir: DataDir = None,
    max_pixels: MaxPixels = None,
    max_batch_size: MaxBatchSize = None,
) -> None:
    from tfpqn.cli.ingest.loop import IngestLoop
    from tfpqn.files.locks import exclusive
    from tfpqn.training import Run

    require_lists_for(agreement, partition, num_probes)
    if (labels or num_frames) and not (images or videos or vectors):
        raise ValueError(
            "--labels and --num-frames are of items that come: give --images, --videos or "
            "--vectors. Received: none of them"
        )
    lists = (data_dir, partition, num_probes, agreement)
    with exclusive(output, "model"):
        run = Run.open(run_dir)
        network = run.load_network()
        arguments: dict[str, Any] = {
            "index": index,
            "output": output,
            "shards": shards,
            # Once: a base that answers otherwise than the deltas would be of no use.
            "answers": choose_answers(run, index, top_k, num_levels, tags, max_pixels),
            "max_batch_size": max_batch_size,
        }
        model = open_model(run, network, **arguments)
        arrivals = None
        if images or videos or vectors:
            sources = {"images": images, "videos": videos, "vectors": vectors, "labels": labels}
            arrivals = open_arrivals(run, network, index, num_frames, **sources)
        export = partial(export_base, run_dir, {**arguments, "lists": lists})
        IngestLoop(model, index, arrivals, new_base_after, export).run(watch)


def open_model(
    run: Run,
    network: Any,
    index: Path,
    output: Path,
    shards: int,
    answers: dict[str, Any],
    max_batch_size: int | None,
    lists: tuple[Any, ...] | None = None,
) -> GrowingModel:
    """What is exported, as the options say; without `lists` it is good for deltas alone."""
    from tfpqn.export.ingest.growing_model import GrowingModel

    options = answers | (choose_lists(run, network, *lists) if lists is not None else {})
    figures = choose_figures(run, network, max_batch_size)
    return GrowingModel(network, index, output, num_shards=shards, **figures, **options)


def export_base(run_dir: Path, arguments: dict[str, Any], base: tuple[Any, ...]) -> None:
    """Export a base; all that it takes is opened for it alone, also in another process."""
    from tfpqn.export.ingest.folders import Base
    from tfpqn.training import Run

    run = Run.open(run_dir)
    open_model(run, run.load_network(), **arguments).export_base(Base(*base))


def open_arrivals(
    run: Run, network: Any, index: Path, num_frames: int | None, **sources: Path | None
) -> Arrivals:
    """What comes into a folder or file."""
    from tfpqn.cli.ingest.arrivals import Arrivals

    data = run.choose_data(None, **sources)

    def open_items() -> Any:
        items = data.open_folder(num_frames, network.image_shape)
        # A table may be ahead of what comes, and name what has gone.
        return data.label(items, missing="unlabelled", partial=True)

    arrivals = Arrivals(network, index, open_items)
    arrivals.require_source()  # A mistake is told before anything is exported.
    return arrivals
