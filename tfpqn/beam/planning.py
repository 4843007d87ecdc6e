"""From a run and a collection to a job in a staging folder."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn import __version__
from tfpqn.beam import storage
from tfpqn.beam.job import (
    ITEMS_FILE,
    JOB_FILE,
    NETWORK_FILE,
    PLACE_COLUMN,
    RECORD_SOURCES,
    Job,
    JobSettings,
)
from tfpqn.beam.records import read_records
from tfpqn.files.atomic import sha256_of_file
from tfpqn.index import network_layout
from tfpqn.index.build import metadata_of
from tfpqn.index.schema import (
    ID_COLUMN,
    IdType,
    id_type_of,
    index_schema,
    metadata_types,
    require_unique,
    to_column,
    to_ids,
)
from tfpqn.items import IMAGES

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet
    from tfpqn.training import Run

ROWS_PER_PART = 2**16
# Records that tell of what type ids are, and whether there are labels.
RECORDS_TO_PLAN_BY = 256
_SOURCES = ("images", "videos", "vectors", *RECORD_SOURCES)


def prepare_job(
    run: Run,
    staging: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    videos: str | os.PathLike[str] | None = None,
    vectors: str | os.PathLike[str] | None = None,
    tfrecords: str | None = None,
    parquet: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    num_frames: int | None = None,
    batch_size: int = 256,
    rows_per_part: int = ROWS_PER_PART,
    report: Callable[[ImageSet], None] | None = None,
) -> Job:
    """Write down in a staging folder what is to be coded; or go on with the job that it holds.

    The items of a job that has begun are those that were there then: what has come since is not
    coded. Units with files that have changed since, or have gone, are coded again. One file that
    holds all items must be the same.

    Args:
        run: A trained run.
        staging: A folder that all workers see, for this job alone: a local or mounted one, or one
            of an object store, such as `gs://bucket/job`.
        images: Folder of images, as of `ImageFolder`.
        videos: Folder of videos, as of `ClipFolder`, or an `.npz` set.
        vectors: File of vectors, as of `open_vectors`.
        tfrecords: Pattern of TFRecord files of images, maybe of an object store. A feature `image`
            (or `image/encoded`) holds the bytes of an image file, `id` its id (else it is file name
            and number), `label` (or `image/class/label`) a whole number. A file is one part.
        parquet: The same of Parquet files, whose names end in `.parquet`, with such columns.
        labels: Table of labels, as of `read_labels`; not of records.
        num_frames: Frames taken of each clip.
        batch_size: Images, or frames of clips, coded at once.
        rows_per_part: Most items in a part.
        report: Called with the items of a job that begins, before any is read; not of records.

    Raises:
        FileNotFoundError: There are no such items.
        ValueError: Not one source is given, it does not fit the run, an id occurs twice, or the
            staging folder holds a job of other settings; the message names them.
    """
    given = dict(zip(_SOURCES, (images, videos, vectors, tfrecords, parquet), strict=True))
    chosen = {name: os.fspath(path) for name, path in given.items() if path}
    if len(chosen) != 1:
        raise ValueError(f"A job needs one of {', '.join(_SOURCES)}. Received: {chosen or 'none'}")
    if min(batch_size, rows_per_part) < 1:
        raise ValueError(
            "batch_size and rows_per_part must be at least 1. "
            f"Received: {batch_size} and {rows_per_part}"
        )
    ((source, path),) = chosen.items()
    is_records = source in RECORD_SOURCES
    data = run.config.data if is_records else run.choose_data(**{source: path}, labels=labels)
    table = labels if is_records else data.labels
    network = run.load_network()
    settings = JobSettings(
        source=source,
        path=_absolute(path),
        contents=storage.state(path) if os.path.isfile(path) and not is_records else None,
        labels=sha256_of_file(table) if table else None,
        image_shape=tuple(network.image_shape),
        num_frames=num_frames,
        resize=data.resize,
        batch_size=batch_size,
        rows_per_part=rows_per_part,
        network=sha256_of_file(run.folder / NETWORK_FILE),
        version=__version__,
    )
    staging = _absolute(os.fspath(staging))
    if storage.exists(storage.join(staging, JOB_FILE)):
        return _go_on(staging, settings)
    if is_records:
        listing = _list_records(settings, network)
    else:
        items = data.open_folder(num_frames, network.image_shape)
        items = data.label(items, missing="unlabelled")
        listing = _list(settings, network, items)
        if report:
            report(items)
    return _write(staging, settings, listing, network, run.folder / NETWORK_FILE)


class _Listing(NamedTuple):
    """The items of a job.

    Attributes:
        items: Where each is, and its ids and metadata where they are known; of records the files.
        rows_per_unit: Rows of `items` in a unit.
        id_type: Either "int64" or "string".
        columns: Name -> type of each metadata column.
        num_frames: Frames of a clip, or None.
    """

    items: pa.Table
    rows_per_unit: int
    id_type: IdType
    columns: dict[str, str]
    num_frames: int | None = None


def _absolute(path: str) -> str:
    """As all processes of a machine know it."""
    return os.path.abspath(path) if storage.is_local(path) else path


def _go_on(staging: str, settings: JobSettings) -> Job:
    job = Job.read(staging)
    former, wanted = dataclasses.asdict(job.settings), dataclasses.asdict(settings)
    changed = [name for name, value in wanted.items() if value != former[name]]
    if changed:
        text = ", ".join(f"{name}={wanted[name]!r}, not {former[name]!r}" for name in changed)
        raise ValueError(
            f"The job in {staging!r} must go on with its own settings; remove that folder to begin "
            f"anew, or take another. Received: {text}"
        )
    return job


def _list(settings: JobSettings, network: Any, items: ImageSet) -> _Listing:
    """The items of a folder, or of a file that holds all."""
    network.require_item_shape(items.item_shape)
    ids = to_ids(items.ids)
    require_unique(ids)
    metadata = metadata_of(items, np.arange(len(items)))
    columns = {name: to_column(values, name) for name, values in metadata.items()}
    kinds = {name: column.type for name, column in columns.items()}
    schema = index_schema(network_layout(network), id_type_of(ids), kinds)
    files = getattr(items, "files", None)
    # Names of files need not be text.
    places = range(len(items)) if files is None else [os.fsencode(file) for file in files]
    return _Listing(
        pa.table({ID_COLUMN: ids, **columns, PLACE_COLUMN: pa.array(places)}),
        settings.rows_per_part,
        id_type_of(ids),
        metadata_types(schema),
        getattr(items, "num_frames", None),
    )


def _list_records(settings: JobSettings, network: Any) -> _Listing:
    """Files of records; the first records of the first file say which columns there are."""
    if settings.labels or network.items is not IMAGES:
        received = "a table of labels" if settings.labels else f"a network of {network.items.kind}"
        raise ValueError(f"Records hold images, and their labels beside them. Received: {received}")
    paths = storage.match(settings.path)
    names = Counter(PurePosixPath(path).name for path in paths)
    double = [name for name, count in names.items() if count > 1]
    if not paths or double:
        raise FileNotFoundError(
            "The pattern must match files of records, each of a name of its own. "
            f"Received: {settings.path!r}, which matches {double or 'none'}"
        )
    is_parquet = settings.source == "parquet"
    others = [path for path in paths if path.endswith(".parquet") != is_parquet]
    if others:
        raise ValueError(
            "Names of Parquet files must end in .parquet, and those of TFRecord files must not. "
            f"Received: {others[0]!r} as {settings.source}"
        )
    first = list(itertools.islice(read_records(paths[0]), RECORDS_TO_PLAN_BY))
    usable = [record for record in first if not record.fault]
    if not usable:
        raise ValueError(
            f"One of the first {RECORDS_TO_PLAN_BY} records of the first file must be good. "
            f"Received: {paths[0]!r}; {first[0].fault if first else 'it has none'}"
        )
    return _Listing(
        pa.table({PLACE_COLUMN: pa.array([path.encode() for path in paths])}),
        1,
        "int64" if isinstance(usable[0].id, int) else "string",
        {"label": "int64"} if any(record.label is not None for record in usable) else {},
    )


def _write(
    staging: str, settings: JobSettings, listing: _Listing, network: Any, network_file: Path
) -> Job:
    """The job comes last: one that was not written to its end is written anew."""
    job = Job(
        staging,
        settings,
        network_layout(network),
        listing.id_type,
        listing.columns,
        listing.num_frames,
        num_units=-(-len(listing.items) // listing.rows_per_unit),
    )
    file = io.BytesIO()
    pq.write_table(listing.items, file, row_group_size=listing.rows_per_unit)
    storage.write(job.place(ITEMS_FILE), file.getvalue())
    storage.write(job.place(NETWORK_FILE), network_file.read_bytes())
    job.write()
    return job
