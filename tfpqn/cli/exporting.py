"""Commands that write and check what a server loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from tfpqn._text import counted
from tfpqn.cli.shared import DataDir, RunDir, console

if TYPE_CHECKING:
    from tfpqn.export import Searcher
    from tfpqn.training import Run

# More would change the measured agreement little.
NUM_TUNING_QUERIES = 128
# Metadata columns that hold the label of an item, or a list of its labels.
LABEL_COLUMNS = ("label", "labels")


TopK = Annotated[int, typer.Option(help="Items that a search returns.")]
NumLevels = Annotated[
    int | None, typer.Option(help="Residual levels to ship; all of them by default.")
]
Tags = Annotated[
    list[str] | None,
    typer.Option(help="Metadata column of the index to filter by, such as label; repeatable."),
]
Partition = Annotated[
    str | None,
    typer.Option(help="Lists to part the items into, of which a search looks at a few; auto."),
]
NumProbes = Annotated[
    int | None, typer.Option(min=1, help="Lists that a query looks at; else for --agreement.")
]
Agreement = Annotated[
    float | None,
    typer.Option(help="Wanted share of a full search's items, measured on queries: 0.99."),
]
MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Largest width x height of an image: 33 million.")
]
MaxBatchSize = Annotated[
    int | None, typer.Option(min=1, help="Rows that a server may merge: 32, of clips 8.")
]


def export(
    run_dir: RunDir,
    index: Annotated[Path, typer.Option(help="Folder of the index.")],
    output: Annotated[Path, typer.Option(help="Version folder: models/NAME/VERSION.")],
    top_k: TopK = 10,
    shards: Annotated[
        int | None,
        typer.Option(help="Parts for as many servers: models/NAME-shard-0-of-4/VERSION ..."),
    ] = None,
    num_levels: NumLevels = None,
    tags: Tags = None,
    partition: Partition = None,
    num_probes: NumProbes = None,
    agreement: Agreement = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Rank candidates by the index's kept embeddings.")
    ] = False,
    num_candidates: Annotated[
        int | None, typer.Option(min=1, help="Candidates of these: 10 x --top-k.")
    ] = None,
    data_dir: DataDir = None,
    max_pixels: MaxPixels = None,
    max_batch_size: MaxBatchSize = None,
) -> None:
    from tfpqn.export import Searcher, require_new_version, save_searcher, save_shards
    from tfpqn.export.model.search_options import list_columns
    from tfpqn.index import CodeIndex, describe_index
    from tfpqn.training import Run
    from tfpqn.training.loops.progress import shown_steps

    require_lists_for(agreement, partition, num_probes)
    if shards is None:
        # Before the long work.
        require_new_version(output)
    run = Run.open(run_dir)
    network = run.load_network()
    known = describe_index(index).metadata_columns
    options = {
        **choose_answers(run, index, top_k, num_levels, tags, max_pixels),
        **choose_lists(run, network, data_dir, partition, num_probes, agreement),
        "rerank": rerank,
        "num_candidates": num_candidates,
    }
    if rerank:
        options["calibration"] = None  # It holds for the scores of codes.
    figures = choose_figures(run, network, max_batch_size)
    if shards is not None:
        with shown_steps() as progress:
            paths = save_shards(
                network, index, output, shards, progress=progress, **figures, **options
            )
        items = counted(describe_index(index).num_items, "items")
        text = f"Exported {items} in {counted(shards, 'shards')}:"
        console.print(text, *paths, sep="\n")
        return
    collection = CodeIndex.load(index, columns=list_columns(options, known))
    with shown_steps() as progress:
        searcher = Searcher(network, collection, progress=progress, **options)
    path = save_searcher(searcher, output, **figures)
    console.print(f"Exported {counted(searcher.num_items, 'items')} to {path}")
    if partition == "auto" and searcher.num_lists is None:
        is_measured = "curve" in searcher.storage.describe()
        reason = "lists would save too little" if is_measured else "so few need no lists"
        console.print(f"A search looks at all items: {reason}.")
    _describe_search(searcher)


def require_lists_for(
    agreement: float | None, partition: str | None, num_probes: int | None
) -> None:
    """Raise a ValueError where an agreement is wanted and nothing is chosen for it."""
    if agreement is not None and (partition is None or num_probes is not None):
        raise ValueError(
            "--agreement chooses how many lists a query looks at: it needs --partition, and no "
            f"--num-probes. Received: --agreement {agreement}"
        )


def choose_answers(
    run: Run,
    index: Path,
    top_k: int,
    num_levels: int | None,
    tags: list[str] | None,
    max_pixels: int | None,
) -> dict[str, Any]:
    """The arguments of `Searcher` that say what a search takes and gives."""
    return {
        "num_levels": num_levels,
        "top_k": top_k,
        "tag_columns": tags or (),
        "label_column": next((name for name in LABEL_COLUMNS if has_labels(index, name)), None),
        # A threshold holds for the codes that it was found with: those of all levels.
        "calibration": run.read_calibration() if num_levels is None else None,
        **({} if max_pixels is None else {"max_pixels": max_pixels}),
    }


def has_labels(index: Path, column: str) -> bool:
    """Whether an item of an index has a label in this column, of which there may be none.

    Without any label, numbers of labels are all -1 and lists of labels are all empty.
    """
    from pyarrow import compute, types

    from tfpqn.index import describe_index
    from tfpqn.index.parts import read_tables

    manifest = describe_index(index)
    if column not in manifest.metadata_columns:
        return False
    kind = manifest.schema.field(column).type
    if not (types.is_list(kind) or types.is_integer(kind)):
        return True
    values = (table[column] for table in read_tables(index, manifest, [column]))
    if types.is_list(kind):
        values = (compute.subtract(compute.list_value_length(lists), 1) for lists in values)
    return any(compute.any(compute.greater_equal(each, 0)).as_py() for each in values)


def choose_lists(
    run: Run,
    network: Any,
    data_dir: Path | None,
    partition: str | None,
    num_probes: int | None,
    agreement: float | None,
) -> dict[str, Any]:
    """The arguments of `Searcher` about lists."""
    is_tuned = partition is not None and num_probes is None
    return {
        "partition": _read_partition(partition),
        "num_probes": num_probes,
        "tuning_queries": _embed_queries(run, network, data_dir) if is_tuned else None,
        **({} if agreement is None else {"agreement": agreement}),
    }


def choose_figures(run: Run, network: Any, max_batch_size: int | None) -> dict[str, Any]:
    """What else an export writes into a version folder."""
    import dataclasses

    from tfpqn.export import default_batching

    batching = default_batching(network)
    if max_batch_size:
        batching = dataclasses.replace(batching, max_batch_size=max_batch_size)
    return {"metrics": run.read_metrics(), "batching": batching}


def _describe_search(searcher: Searcher) -> None:
    """Print what filters and lists the searches of an export have."""
    if searcher.tag_filter is not None:
        such = ", ".join(searcher.tag_filter.examples)
        number = counted(searcher.tag_filter.num_tags, "tags")
        console.print(f"{number} to filter by, such as {such}")
    storage = searcher.storage.describe()
    if "agreement" in storage:
        lists = counted(storage["num_lists"], "lists")
        first_stage = "by codes " if "reranked_by" in storage else ""
        console.print(
            f"A search looks at {storage['num_probes']} of {lists} and finds "
            f"{storage['agreement']:.1%} of what a full search "
            f"{first_stage}finds, measured on {storage['tuned_with']}."
        )


def verify(
    model: Annotated[Path, typer.Argument(help="Version folder: models/NAME/VERSION.")],
) -> None:
    from tfpqn.export import verify_version

    report = verify_version(model)
    console.print(
        f"{model} is whole: {counted(report.num_files, 'files')}, "
        f"{counted(report.num_items, 'items')}, {counted(report.num_ops, 'ops')}, "
        f"{counted(report.num_requests, 'warm-up requests')} answered alike by "
        f"{', '.join(report.readers)}"
    )


def _read_partition(text: str | None) -> int | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"--partition must be a number of lists, or auto. Received: {text!r}"
        ) from None


def _embed_queries(run: Run, network: Any, data_dir: Path | None) -> np.ndarray:
    """Embeddings of some of the run's held-out queries."""
    from tfpqn.training import encode_set

    queries = run.load_splits(data_dir).query
    count = min(len(queries), NUM_TUNING_QUERIES)
    positions = np.random.default_rng(0).choice(len(queries), count, replace=False)
    return encode_set(network, queries.subset(np.sort(positions))).embeddings
