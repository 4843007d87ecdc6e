"""From the parts of a job to an index and a list of what is broken."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn.beam import storage
from tfpqn.beam.job import ITEMS_FILE, JOB_FILE, NETWORK_FILE, Job
from tfpqn.beam.worker import Receipt, part_name, receipt_name
from tfpqn.files.atomic import write_file_atomically
from tfpqn.index import CodeIndexWriter
from tfpqn.index.schema import ID_COLUMN, require_unique

# As a `Path` has it too, which makes one slash of two; a drive of Windows has one letter.
_ADDRESS = re.compile(r"\w{2,}:/")


class Summary(NamedTuple):
    """What a job made.

    Attributes:
        num_items: Items of the index.
        num_parts: Its parts.
        num_broken: Items that could not be read.
        broken_file: JSON lines, `{"id": .., "reason": ..}` for each of them; None without any.
    """

    num_items: int
    num_parts: int
    num_broken: int
    broken_file: Path | None


def finish_job(job: Job, output: str | os.PathLike[str], *, overwrite: bool = False) -> Summary:
    """Make an index of the parts of a job, which appears whole, and remove the job.

    Args:
        job: All units of which are coded.
        output: The folder of the index, on a local file system. What could not be read is listed
            beside it, in `{output}.broken.jsonl`.
        overwrite: Whether an index at `output` is replaced.

    Raises:
        FileExistsError: `output` exists and `overwrite` is not set.
        RuntimeError: A unit has no part yet.
        ValueError: No item could be read, or an id occurs twice. The job stays; mend the files and
            run it again. Or `output` is an address as of gs://.
    """
    output = os.fspath(output)
    if _ADDRESS.match(output):
        raise ValueError(
            f"output must be a folder of a local or mounted file system. Received: {output!r}"
        )
    receipts = [_receipt_of(job, number) for number in range(job.num_units)]
    filled = [number for number, receipt in enumerate(receipts) if receipt.part.rows]
    broken = [pair for receipt in receipts for pair in receipt.broken]
    if not filled:
        id_, reason = broken[0] if broken else ("no item", "")
        raise ValueError(
            "The collection must hold at least one readable item; mend the items and run the job "
            f"again. Received: {len(broken)} items, none readable, the first {id_!r}: {reason}"
        )
    if job.settings.is_records:  # The ids of other sources were looked at before.
        _require_unique_ids(job, [(number, receipts[number]) for number in filled])
    file = Path(f"{output.rstrip('/')}.broken.jsonl")
    with CodeIndexWriter(output, job.layout, overwrite=overwrite) as writer:
        writer.schema = job.schema
        for number in filled:
            with storage.local_copy(job.place(part_name(number))) as path:
                writer.append_part(path, receipts[number].part)
        # Before the index appears: who finds that finds what it lacks.
        _write_broken(file, broken)
    _remove(job)
    return Summary(writer.num_items, len(filled), len(broken), file if broken else None)


def _receipt_of(job: Job, number: int) -> Receipt:
    receipt = Receipt.read(job, number)
    if receipt is None:
        raise RuntimeError(
            "All units must be coded before their parts become an index. Received: no part of unit "
            f"{number} in {job.staging!r}; run the job again"
        )
    return receipt


def _require_unique_ids(job: Job, filled: list[tuple[int, Receipt]]) -> None:
    """Only parts whose ranges of ids overlap are looked at together."""
    for numbers in _overlapping(filled):
        columns = []
        for number in numbers:
            with storage.open_file(job.place(part_name(number))) as file:
                columns.append(pq.read_table(file, columns=[ID_COLUMN])[ID_COLUMN])
        require_unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks]))


def _overlapping(filled: list[tuple[int, Receipt]]) -> Iterator[list[int]]:
    """Yields the numbers of parts of which none holds an id in the range of another group's."""
    ranges: list[Any] = sorted((receipt.part.id_range, number) for number, receipt in filled)
    group: list[int] = []
    highest: Any = None
    for (low, high), number in ranges:
        if group and low > highest:
            yield group
            group = []
        highest = max(high, highest) if group else high
        group.append(number)
    yield group


def _write_broken(path: Path, broken: list[tuple[str | int, str]]) -> None:
    if not broken:
        path.unlink(missing_ok=True)
        return
    lines = [
        json.dumps({"id": id_, "reason": reason}, ensure_ascii=False) + "\n"
        for id_, reason in broken
    ]
    # The name of a file in a reason need not be UTF-8; JSON has the same escapes.
    write_file_atomically(path, "".join(lines).encode(errors="backslashreplace"))


def _remove(job: Job) -> None:
    """Only what a job writes: the folder may be a slip. The job itself goes first.

    After a kill in between, what is left counts as no job, rather than as one without its items.
    """
    names = [name(number) for number in range(job.num_units) for name in (part_name, receipt_name)]
    storage.remove(job.place(name) for name in (JOB_FILE, *names, ITEMS_FILE, NETWORK_FILE))
    if storage.is_local(job.staging):
        folder = Path(job.staging)
        if not any(folder.iterdir()):
            folder.rmdir()
