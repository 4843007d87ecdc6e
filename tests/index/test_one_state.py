"""Laws of an index that several use at once: a reader gets one state, no update is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.index.plain_lists import LAYOUT
from tfpqn.index import (
    CodeIndex,
    CodeIndexWriter,
    compact_index,
    remove_from_index,
    update_index,
)

IDS = np.arange(8)
NUM_OPENED = 4  # once each part


def index_with(value: int) -> CodeIndex:
    return CodeIndex(LAYOUT, np.full((8, 2), value, np.uint8), IDS, {"label": IDS * value})


def write_index(path: Path, value: int, rows_per_part: int = 2) -> None:
    index = index_with(value)
    with CodeIndexWriter(path, LAYOUT, overwrite=True, rows_per_part=rows_per_part) as writer:
        writer.append(index.codes, index.ids, index.metadata)


def call_before_opening(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object]) -> list[int]:
    """Calls `act` with 0, 1, ... before each opening of a part; returns these numbers."""
    read_metadata, numbers = pq.read_metadata, []

    def acting(*arguments: Any) -> Any:
        numbers.append(len(numbers))
        act(numbers[-1])
        return read_metadata(*arguments)

    monkeypatch.setattr(pq, "read_metadata", acting)
    return numbers


@pytest.mark.parametrize("moment", range(NUM_OPENED))
@pytest.mark.parametrize("rows_per_part", [2, 3])
def test_load_gives_the_former_index_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, rows_per_part: int
) -> None:
    """Whenever the folder is replaced, by parts of the same names and sizes or by others."""
    path = tmp_path / "index"
    write_index(path, 1)
    numbers = call_before_opening(
        monkeypatch, lambda number: number == moment and write_index(path, 2, rows_per_part)
    )
    index = CodeIndex.load(path)
    assert moment in numbers
    value = int(index.codes[0, 0])
    assert (index.codes == value).all()
    np.testing.assert_array_equal(index.ids, IDS)
    assert index.metadata["label"].to_pylist() == (IDS * value).tolist()


def test_reader_of_an_index_that_never_rests_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    write_index(path, 1)
    call_before_opening(monkeypatch, lambda number: write_index(path, number % 7, 2 + number % 2))
    with pytest.raises(BlockingIOError, match="index, replaced during each of 10 tries"):
        CodeIndex.verify(path)


CHANGES = {
    "compact": compact_index,
    "remove": lambda path: remove_from_index(path, [1]),
    "update": lambda path: update_index(path, index_with(3)),
    "save": lambda path: index_with(3).save(path, overwrite=True),
}


@pytest.mark.parametrize("second", CHANGES.values(), ids=CHANGES)
def test_second_writer_is_refused_by_name_and_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: Callable[[Path], object]
) -> None:
    path = tmp_path / "index"
    write_index(path, 1)
    refused: list[BaseException] = []

    def write_second(number: int) -> None:
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
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
