"""Commands that make and tend a collection: code, grow, shrink and tidy it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfpqn._extras import import_extra
from tfpqn._text import counted
from tfpqn.cli.shared import (
    DataDir,
    ImagesFolder,
    LabelsTable,
    ProtocolName,
    RunDir,
    VectorsFile,
    VideosFolder,
    console,
    error_console,
    read_ids,
    report_skipped,
)

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet
    from tfpqn.index import Growth, Manifest

IndexFolder = Annotated[Path, typer.Option(help="Folder of the index.")]


def encode(
    run_dir: RunDir,
    output: Annotated[Path, typer.Option(help="Folder of the index to write.")],
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    tfrecords: Annotated[
        str | None, typer.Option(help="Pattern of TFRecord files of images: 'gs://bucket/*'.")
    ] = None,
    parquet: Annotated[
        str | None, typer.Option(help="Pattern of Parquet files of images, in a column `image`.")
    ] = None,
    labels: LabelsTable = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames taken of each clip: as in training.")
    ] = None,
    staging: Annotated[
        str | None,
        typer.Option(help="Folder of the job, which all workers see: OUTPUT.staging."),
    ] = None,
    runner: Annotated[
        str, typer.Option(help="Beam's runner: DirectRunner, FlinkRunner, ..")
    ] = "DirectRunner",
    batch_size: Annotated[int, typer.Option(min=1, help="Images coded at once.")] = 256,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Most items in one file.")] = 65_536,
    overwrite: Annotated[bool, typer.Option(help="Replace an index at --output.")] = False,
    pipeline_options: Annotated[
        list[str] | None, typer.Argument(help="Options of the runner, after a lone --.")
    ] = None,
) -> None:
    beam = _import_beam()
    from tfpqn.index.code_index_writer import require_only_index
    from tfpqn.training import Run

    if output.exists() and not overwrite:
        raise FileExistsError(
            "The output folder must not exist yet, unless --overwrite is given. "
            f"Received: {str(output)!r}"
        )
    require_only_index(output)
    options = pipeline_options or []
    if options and not options[0].startswith("--"):
        raise ValueError(
            f"After a lone -- there must be options of the runner. Received: {options[0]!r}"
        )
    pipeline = beam.open_pipeline(runner, options)  # Before anything is written.
    job = beam.prepare_job(
        Run.open(run_dir),
        staging or f"{output}.staging",
        images=images,
        videos=videos,
        vectors=vectors,
        tfrecords=tfrecords,
        parquet=parquet,
        labels=labels,
        num_frames=num_frames,
        batch_size=batch_size,
        rows_per_part=rows_per_part,
        report=_report_left_out,
    )
    _show_parts()
    counters = beam.run_pipeline(job, pipeline)
    summary = beam.finish_job(job, output, overwrite=overwrite)
    if summary.num_broken:
        number = counted(summary.num_broken, "broken items")
        error_console.print(f"Left out {number}, listed in {summary.broken_file}")
    found = counters.get("parts_found", 0)
    before = f", {found:,} of them from before" if found else ""
    console.print(
        f"{counted(summary.num_items, 'items')} coded, in "
        f"{counted(summary.num_parts, 'parts')}{before}. The index is in {output}"
    )


def index(
    run_dir: RunDir,
    output: Annotated[Path, typer.Option(help="Folder of the index to write.")],
    protocol: ProtocolName = None,
    images: ImagesFolder = None,
    videos: VideosFolder = None,
    vectors: VectorsFile = None,
    labels: LabelsTable = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames taken of each clip: as in training.")
    ] = None,
    data_dir: DataDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images coded at once.")] = 256,
    overwrite: Annotated[bool, typer.Option(help="Replace an index at --output.")] = False,
    keep_embeddings: Annotated[
        bool,
        typer.Option("--keep-embeddings", help="Keep float16 embeddings, for export --rerank."),
    ] = False,
    add: Annotated[
        bool, typer.Option(help="Add to the index at --output; items it has are coded anew.")
    ] = False,
) -> None:
    from tfpqn.index import build_index
    from tfpqn.training import Run
    from tfpqn.training.loops.progress import shown_steps

    if add and overwrite:
        raise ValueError("Either add to the index or replace it. Received: --add and --overwrite")
    if add and keep_embeddings:
        raise ValueError(
            "An index keeps embeddings from its beginning: --add does as it does. Received: --add "
            "and --keep-embeddings"
        )
    if output.exists() and not (overwrite or add):
        raise FileExistsError(
            "The output folder must not exist yet, unless --overwrite or --add is given. "
            f"Received: {str(output)!r}"
        )
    run = Run.open(run_dir)
    network = run.load_network()
    if images or videos or vectors:
        data = run.choose_data(protocol, images, videos, vectors, labels)
        items = data.open_folder(num_frames, network.image_shape)
        collection = data.label(items, missing="unlabelled")
    else:
        collection = run.load_splits(data_dir, protocol, num_frames, labels=labels).database
    network.require_item_shape(collection.item_shape)
    with shown_steps() as show:
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "progress": lambda done: show("Coding", done, len(collection)),
        }
        if add:
            growth = add_items(network, collection, output, **options)
            added = counted(growth.num_added, "items")
            summary = f"{added} added, {growth.num_updated:,} coded anew"
        else:
            options |= {"overwrite": overwrite, "keep_embeddings": keep_embeddings}
            num_items = build_index(network, collection, output, **options)
            summary = f"{counted(num_items, 'items')} coded"
        show("Coding", len(collection), len(collection))
    _report_left_out(collection)
    console.print(f"{summary}. The index is in {output}")


def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of the items to remove.")],
    index: IndexFolder,
) -> None:
    from tfpqn.index import describe_index, remove_from_index

    before = describe_index(index)
    after = remove_from_index(index, read_ids(ids, before.id_type, "The ids"))
    removed = before.num_items - after.num_items
    console.print(f"{counted(removed, 'items')} removed, {after.num_items:,} left in {index}")


def compact(
    index: IndexFolder,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Most items in one file.")] = 1_000_000,
) -> None:
    from tfpqn.index import compact_index, describe_index

    before = describe_index(index)
    after = compact_index(index, rows_per_part=rows_per_part)
    console.print(
        f"{counted(after.num_items, 'items')}: {_describe_size(before)} became "
        f"{_describe_size(after)}"
    )


class _ShownRecords(logging.Handler):
    """Prints on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        error_console.print(record.getMessage())


def _show_parts() -> None:
    """Let workers in this process say which part is done."""
    logger = logging.getLogger("tfpqn.beam")
    logger.setLevel(logging.INFO)
    logger.handlers = [_ShownRecords()]
    logger.propagate = False  # Beam gives the root a handler of its own.


def _import_beam() -> Any:
    """The room `tfpqn.beam`; without what Beam says of extras that nobody asked for, and with
    errors of the work as one line rather than as a traceback besides."""
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logging.disable(logging.WARNING)
    try:
        import_extra("apache_beam", "beam", "Coding with Beam needs apache-beam")
        from tfpqn import beam
    finally:
        logging.disable(logging.NOTSET)
    return beam


def add_items(network: Any, collection: ImageSet, output: Path, **options: Any) -> Growth:
    """Add to an index; one with ids of another type is the user's error here, not the program's."""
    from tfpqn.index import add_to_index

    require_own_ids(collection)
    try:
        return add_to_index(network, collection, output, **options)
    except TypeError as error:
        raise ValueError(
            f"The items must have ids and labels of the index's types; a folder's ids are paths, a "
            f"protocol's are numbers. Received: {error}"
        ) from error


def require_own_ids(collection: ImageSet) -> None:
    """Raise a ValueError if the items have no ids but row numbers."""
    if not collection.has_own_ids:
        raise ValueError(
            "Vectors that are added must have ids (id in .npz and .parquet): their row numbers "
            "would replace the items that have these numbers. Received: vectors without ids"
        )


def _report_left_out(items: ImageSet) -> None:
    """Name what is not coded, and count the items without a label where others have one."""
    from tfpqn.datasets.image_set import find_labelled

    report_skipped(items)
    are_labelled = zip(items.ids.tolist(), find_labelled(items.labels).tolist(), strict=True)
    coded = [is_labelled for id_, is_labelled in are_labelled if id_ not in items.skipped]
    if 0 < coded.count(False) < len(coded):
        error_console.print(f"Indexed without a label: {counted(coded.count(False), 'items')}")


def _describe_size(manifest: Manifest) -> str:
    return f"{counted(len(manifest.parts), 'files')} of {manifest.num_bytes:,} bytes"
