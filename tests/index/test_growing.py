"""Laws of a collection that changes: whatever is done to an index, it equals a list of items."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.plain_lists import (
    COLUMN_TYPES,
    ID_KINDS,
    LAYOUT,
    Item,
    ids_of,
    index_of,
    items_of,
    items_with,
    write_items,
)
from tfpqn.index import (
    CodeIndex,
    CodeIndexWriter,
    Growth,
    compact_index,
    merge_indexes,
    remove_from_index,
    update_index,
)
from tfpqn.index.manifest import read_manifest


def split_known(model: list[Item], items: list[Item]) -> tuple[list[Item], list[Item]]:
    known = {item.id for item in model}
    return [i for i in items if i.id in known], [i for i in items if i.id not in known]


def put(model: list[Item], newer: list[Item]) -> list[Item]:
    """The model with items in the places of those that have their ids."""
    by_id = {item.id: item for item in newer}
    return [by_id.get(item.id, item) for item in model]


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
@given(data=st.data())
@settings(max_examples=15)
def test_any_sequence_of_changes_on_disk_equals_the_same_changes_to_a_list(
    id_type: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("growing")
    path, other = folder / "index", folder / "other"
    model = data.draw(items_with(ID_KINDS[id_type]))
    write_items(path, model, id_type)
    changes = st.sampled_from(("update", "remove", "compact", "merge"))
    for number, change in enumerate(data.draw(st.lists(changes, max_size=4))):
        rows_per_part = data.draw(st.integers(1, 4))
        items = data.draw(items_with(ID_KINDS[id_type]))
        known, further = split_known(model, items)
        if change == "update" and items:
            growth = update_index(path, index_of(items, id_type), rows_per_part=rows_per_part)
            assert growth == Growth(len(further), len(known))
            model = put(model, known) + further
        elif change == "remove":
            gone = {item.id for item in known}
            ids = ids_of(known, id_type)
            report = remove_from_index(path, ids, rows_per_part=rows_per_part)
            model = [item for item in model if item.id not in gone]
            assert report.num_items == len(model)
        elif change == "compact":
            compact_index(path, rows_per_part=rows_per_part)
        elif change == "merge":
            write_items(other / str(number), further, id_type)
            merge_indexes(path, path, other / str(number), overwrite=True)
            model = model + further
        index = CodeIndex.load(path)
        assert items_of(index) == model
        assert (index.id_type, index.layout) == (id_type, LAYOUT)
        assert {field.name: field.type for field in index.metadata.schema} == COLUMN_TYPES
    CodeIndex.verify(path)
    assert {entry.name for entry in folder.iterdir()} <= {"index", "other"}


def make_items(num_items: int, first: int = 0) -> list[Item]:
    return [
        Item(number, (number % 256, number // 256), number % 5, ["tag"] * (number % 3))
        for number in range(first, first + num_items)
    ]


# On disk


def test_many_small_parts_become_few_full_ones(tmp_path: Path) -> None:
    items = make_items(25)
    write_items(tmp_path / "index", items, "int64", rows_per_part=1)
    report = compact_index(tmp_path / "index", rows_per_part=10)
    assert (report.num_parts, report.num_items) == (3, 25)
    assert report == CodeIndex.verify(tmp_path / "index")
    assert items_of(CodeIndex.load(tmp_path / "index")) == items
    assert compact_index(tmp_path / "index").num_parts == 1


def test_compaction_holds_one_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(tmp_path / "index", make_items(20), "int64", rows_per_part=4)
    rows_of_append: list[int] = []
    append = CodeIndexWriter.append_table

    def count(writer: CodeIndexWriter, table: pa.Table) -> None:
        rows_of_append.append(len(table))
        append(writer, table)

    monkeypatch.setattr(CodeIndexWriter, "append_table", count)
    compact_index(tmp_path / "index", rows_per_part=8)
    assert rows_of_append == [4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        compact_index,
        lambda path: remove_from_index(path, [2]),
        lambda path: update_index(path, index_of(make_items(3), "int64")),
        lambda path: merge_indexes(path, path, overwrite=True),
    ],
    ids=["compact", "remove", "update", "merge"],
)
def test_torn_part_is_named_and_the_index_stays_as_it_was(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "index"
    write_items(path, make_items(5), "int64")
    part = path / "part-00001-of-00003.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ValueError, match="part-00001-of-00003"):
        change(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_changes_on_disk_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path, items = tmp_path / "index", make_items(5)
    write_items(path, items, "int64")
    with pytest.raises(ValueError, match="Received: 2 unknown ids, the first being 77"):
        remove_from_index(path, [3, 77, 78])
    with pytest.raises(TypeError, match="ids must hold values of type int64. Received: string"):
        remove_from_index(path, ["3"])
    with pytest.raises(TypeError, match="ids must hold values of type int64. Received: string"):
        update_index(path, index_of([Item("a", (1, 2), 3, [])], "string"))
    with pytest.raises(TypeError, match="'label' must hold values of type int64. Received: string"):
        update_index(path, CodeIndex(LAYOUT, [[1, 2]], [9], {"label": ["a"]}))
    with pytest.raises(ValueError, match="unique. Received: the id 0 2 times"):
        merge_indexes(tmp_path / "double", path, path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        merge_indexes(path, path)
    with pytest.raises(ValueError, match="at least one index"):
        merge_indexes(tmp_path / "nothing")
    (path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=r"also holds 'mine\.txt'"):
        compact_index(path)
    (path / "mine.txt").unlink()
    assert items_of(CodeIndex.load(path)) == items
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_indexes_that_differ_are_not_merged(tmp_path: Path) -> None:
    write_items(tmp_path / "a", make_items(2), "int64")
    write_items(tmp_path / "words", [Item("b", (0, 0), 1, [])], "string")
    CodeIndex(LAYOUT, [[1, 2]], [9], {"label": [1]}).save(tmp_path / "bare")
    for name in ("words", "bare"):
        with pytest.raises(ValueError, match=f"same column types.*in '.*{name}'"):
            merge_indexes(tmp_path / "merged", tmp_path / "a", tmp_path / name)


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
def test_adding_opens_no_part_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_type: str
) -> None:
    items = make_items(6)
    if id_type == "string":
        items = [item._replace(id=f"photos/{item.id}.jpg") for item in items]
    path = tmp_path / "index"
    write_items(path, items[:4], id_type)
    digests = {part.sha256 for part in read_manifest(path).parts}
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_metadata", None)
        assert update_index(path, index_of(items[4:], id_type)) == Growth(2, 0)
    assert digests < {part.sha256 for part in read_manifest(path).parts}
    assert items_of(CodeIndex.load(path)) == items
    # Nor does a change open the parts that hold none of its ids.
    opened, read_metadata = [], pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda *a: opened.append(a) or read_metadata(*a))
    remove_from_index(path, [items[3].id])
    assert len(opened) == 2
    assert items_of(CodeIndex.load(path)) == items[:3] + items[4:]


def test_columns_that_new_items_lack_stay_for_known_ids_and_are_missing_for_others(
    tmp_path: Path,
) -> None:
    items = make_items(3)
    write_items(tmp_path / "index", items, "int64")
    metadata = {"label": [8, 9], "colour": ["red", "blue"]}
    newer = CodeIndex(LAYOUT, [[5, 5], [6, 6]], [2, 50], metadata)
    assert update_index(tmp_path / "index", newer) == Growth(num_added=1, num_updated=1)
    assert items_of(CodeIndex.load(tmp_path / "index")) == [
        *items[:2],
        Item(2, (5, 5), 8, items[2].tags),
        Item(50, (6, 6), 9, None),
    ]
