"""Laws of an index that several use at once: a reader gets one state, no update is lost."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.index.small_index import LAYOUT, names_in, write_index
from tfpqn.index import (
    CodeIndex,
    CodeIndexWriter,
    compact_index,
    copy_index,
    remove_from_index,
    update_index,
)

IDS = np.arange(8)
NUM_OPENED = 4  # once each part


def index_with(value):
    return CodeIndex(LAYOUT, np.full((8, 2), value, np.uint8), IDS, {"label": IDS * value})


def call_before_opening(monkeypatch, act):
    """Calls `act` with 0, 1, ... before each opening of a part; returns these numbers."""
    read_metadata, numbers = pq.read_metadata, []

    def acting(*arguments):
        numbers.append(len(numbers))
        act(numbers[-1])
        return read_metadata(*arguments)

    monkeypatch.setattr(pq, "read_metadata", acting)
    return numbers


@pytest.mark.parametrize("moment", range(NUM_OPENED))
@pytest.mark.parametrize("rows_per_part", [2, 3])
def test_load_gives_the_former_index_or_the_new_one(tmp_path, monkeypatch, moment, rows_per_part):
    """Whenever the folder is replaced, by parts of the same names and sizes or by others."""
    path, new = tmp_path / "index", index_with(2)
    write_index(path, index_with(1))

    def replace(number):
        if number == moment:
            write_index(path, new, rows_per_part, overwrite=True)

    numbers = call_before_opening(monkeypatch, replace)
    index = CodeIndex.load(path)
    assert moment in numbers
    assert index.table.equals(index_with(int(index.codes[0, 0])).table)


def test_copy_is_of_one_state_though_the_index_is_replaced_meanwhile(tmp_path, monkeypatch):
    path, new = tmp_path / "index", index_with(2)
    write_index(path, index_with(1))
    append_part, numbers = CodeIndexWriter.append_part, []

    def append(*arguments):
        numbers.append(len(numbers))
        if numbers[-1] == 1:
            write_index(path, new, overwrite=True)
        return append_part(*arguments)

    monkeypatch.setattr(CodeIndexWriter, "append_part", append)
    copy_index(path, tmp_path / "copy")
    CodeIndex.verify(tmp_path / "copy")
    assert CodeIndex.load(tmp_path / "copy").table.equals(new.table)


def test_reader_of_an_index_that_never_rests_is_told_so(tmp_path, monkeypatch):
    path, index = tmp_path / "index", index_with(1)
    write_index(path, index)
    call_before_opening(
        monkeypatch, lambda number: write_index(path, index, 2 + number % 2, overwrite=True)
    )
    with pytest.raises(BlockingIOError, match="index, replaced during each of 10 tries"):
        CodeIndex.verify(path)


CHANGES = {
    "compact": compact_index,
    "remove": lambda path: remove_from_index(path, [1]),
    "update": lambda path: update_index(path, index_with(3)),
    "save": lambda path: index_with(3).save(path, overwrite=True),
}


@pytest.mark.parametrize("second", CHANGES.values(), ids=CHANGES)
def test_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path, monkeypatch, second):
    path, refused = tmp_path / "index", []
    write_index(path, index_with(1))

    def write_second(number):
        if number == 1:
            with pytest.raises(BlockingIOError, match="index must have one writer.*index") as error:
                second(path)
            refused.append(error.value)

    call_before_opening(monkeypatch, write_second)
    update_index(path, CodeIndex(LAYOUT, [[9, 9], [9, 9]], [1, 100], {"label": [0, 0]}))
    assert refused
    monkeypatch.undo()
    assert CodeIndex.load(path).ids.tolist() == [*IDS.tolist(), 100]
    second(path)
    assert names_in(tmp_path) == ["index"]
