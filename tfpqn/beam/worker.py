"""The work on one unit: read its items, code them, write its part and a receipt."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn._command_line import import_keras_quietly
from tfpqn.beam import storage
from tfpqn.beam.job import ITEMS_FILE, NETWORK_FILE, PLACE_COLUMN, Job
from tfpqn.beam.listed_items import ListedClips, ListedImages
from tfpqn.beam.records import read_columns
from tfpqn.datasets import ImageSet, open_clips, open_vectors
from tfpqn.files.foreign import reading
from tfpqn.index.build import code_batches, network_layout
from tfpqn.index.code_index_writer import write_part
from tfpqn.index.manifest import Part
from tfpqn.index.schema import ID_COLUMN, require_unique, to_table

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receipt:
    """What came of a unit; written after its part.

    Attributes:
        job: Digest of the job.
        contents: Digest of the sizes and times of change of the files of the unit.
        part: The part.
        broken: Id and reason of each item that could not be read.
        num_batches: Batches that the network coded.
        seconds: Time that it took.
    """

    job: str
    contents: str
    part: Part
    broken: tuple[tuple[str | int, str], ...]
    num_batches: int
    seconds: float

    @classmethod
    def read(cls, job: Job, number: int) -> Receipt | None:
        """The receipt of a unit; None if the job has none yet."""
        path = job.place(receipt_name(number))
        if not storage.exists(path):
            return None
        data = storage.read(path)
        with reading(path, "the receipt of a part"):
            fields = json.loads(data)
            part = fields.pop("part")
            part["id_range"] = part["id_range"] and tuple(part["id_range"])
            broken = tuple((id_, reason) for id_, reason in fields.pop("broken"))
            receipt = cls(part=Part(**part), broken=broken, **fields)
        return receipt if receipt.job == job.digest else None


class _Unit(NamedTuple):
    """The items of a unit, their ids and metadata, and which were broken before any was read."""

    items: ImageSet
    columns: pa.Table
    broken: list[tuple[str | int, str]]


class Worker:
    """The network of a job in memory, and the job.

    Args:
        staging: The job's folder.

    Raises:
        FileNotFoundError: It holds no job.
        ValueError: The network is damaged or another.
    """

    def __init__(self, staging: str) -> None:
        import_keras_quietly()
        from tfpqn.training.runs.network_file import read_network

        self.job = Job.read(staging)
        with storage.local_copy(self.job.place(NETWORK_FILE)) as path:
            self.network = read_network(path)
        self.job.layout.require(network_layout(self.network))
        # The network itself keeps all cores busy, and a unit is as much as memory should hold.
        self._one_at_a_time = threading.Lock()

    def code(self, number: int) -> tuple[Receipt, bool]:
        """Code a unit, unless its part is there, whole and of the same files; whether that was so.

        A unit of which no item could be read is tried again.
        """
        with storage.open_file(self.job.place(ITEMS_FILE)) as file:
            items = pq.ParquetFile(file).read_row_group(number)
        contents = _digest_of_files(items[PLACE_COLUMN].to_pylist())
        former = Receipt.read(self.job, number)
        if former is not None and former.contents == contents and former.part.rows:
            if _is_whole(self.job, number, former.part):
                return former, True
        with self._one_at_a_time:
            return self._code(number, items, contents), False

    def _code(self, number: int, items: pa.Table, contents: str) -> Receipt:
        started = time.perf_counter()
        unit = self._open(items)
        size = self.job.settings.batch_size
        batches = list(code_batches(self.network, unit.items, size, may_be_none=True))
        part = self._write_part(number, unit.columns, batches)
        skipped = unit.items.skipped  # by threads, in no certain order
        broken = (*unit.broken, *((id_, skipped[id_]) for id_ in unit.items.ids if id_ in skipped))
        seconds = time.perf_counter() - started
        receipt = Receipt(self.job.digest, contents, part, broken, len(batches), seconds)
        data = json.dumps(asdict(receipt), indent=1, default=int) + "\n"
        storage.write(self.job.place(receipt_name(number)), data.encode())
        _LOGGER.info(
            f"Part {number + 1:,} of {self.job.num_units:,}: {part.rows:,} items coded, "
            f"{len(broken):,} broken, in {seconds:.1f} s"
        )
        return receipt

    def _open(self, items: pa.Table) -> _Unit:
        job, settings = self.job, self.job.settings
        places, columns = items[PLACE_COLUMN].to_pylist(), items.drop_columns([PLACE_COLUMN])
        if settings.is_records:
            images, columns, broken = read_columns(places[0].decode(), job.schema)
            require_unique(columns[ID_COLUMN])
            return _Unit(self._list(images, columns), columns, list(broken))
        if isinstance(places[0], bytes):
            files = [Path(os.fsdecode(place)) for place in places]
            return _Unit(self._list(files, columns), columns, [])
        # Another file has other items in the rows that got these ids.
        if (found := storage.state(settings.path)) != settings.contents:
            raise ValueError(
                f"{settings.path!r} must stay as it was when the job began: {settings.contents}. "
                f"Received: {found}"
            )
        return _Unit(self._one_file.subset(np.array(places)), columns, [])

    @functools.cached_property
    def _one_file(self) -> ImageSet:
        """The collection that lies in one file, opened once a job."""
        settings = self.job.settings
        if settings.source == "vectors":
            return open_vectors(settings.path)
        return open_clips(settings.path, settings.image_shape, self.job.num_frames or 1)

    def _list(self, files: Any, columns: pa.Table) -> ImageSet:
        settings, ids = self.job.settings, columns[ID_COLUMN].to_numpy()
        options = (files, ids, settings.image_shape, settings.resize)
        if self.job.num_frames is None:
            return ListedImages(*options)
        return ListedClips(*options, num_frames=self.job.num_frames)

    def _write_part(self, number: int, columns: pa.Table, batches: list[Any]) -> Part:
        layout = self.job.layout
        none = np.empty((0, layout.code_length), layout.code_dtype), np.empty(0, np.int64)
        codes, rows = map(np.concatenate, zip(none, *(batch[:2] for batch in batches), strict=True))
        columns = columns.take(rows)
        ids, metadata = columns[ID_COLUMN], columns.drop_columns([ID_COLUMN])
        table = to_table(layout, codes, ids, metadata, self.job.schema)
        with tempfile.TemporaryDirectory(prefix="tfpqn-") as folder:
            path = Path(folder, part_name(number))
            part = write_part(table, path)
            storage.write(self.job.place(path.name), path.read_bytes())
        return part


def part_name(number: int) -> str:
    """The file of a unit's part in the staging folder."""
    return f"unit-{number:06d}.parquet"


def receipt_name(number: int) -> str:
    """The file of a unit's receipt in the staging folder."""
    return f"unit-{number:06d}.json"


def _digest_of_files(places: list[bytes] | list[int]) -> str:
    """Empty for rows of one file, of which the settings of the job hold the state."""
    files = [os.fsdecode(place) for place in places if isinstance(place, bytes)]
    states = "\n".join(map(storage.state, files))
    return hashlib.sha256(states.encode()).hexdigest() if files else ""


def _is_whole(job: Job, number: int, part: Part) -> bool:
    path = job.place(part_name(number))
    return storage.exists(path) and hashlib.sha256(storage.read(path)).hexdigest() == part.sha256
