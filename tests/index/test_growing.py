"""Laws of a collection that changes: whatever is done to an index, it equals a list of items."""

from pathlib import Path
from typing import Any

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
    Growth,
    compact_index,
    describe_index,
    remove_from_index,
    update_index,
)
from tfpqn.index.part_writer import PartWriter


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
    path = folder / "index"
    model = data.draw(items_with(ID_KINDS[id_type]))
    write_items(path, model, id_type)
    changes = st.sampled_from(("update", "remove", "compact"))
    for change in data.draw(st.lists(changes, max_size=4)):
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
        index = CodeIndex.load(path)
        assert items_of(index) == model
        assert (index.id_type, index.layout) == (id_type, LAYOUT)
        assert {field.name: field.type for field in index.metadata.schema} == COLUMN_TYPES
    CodeIndex.verify(path)
    assert [entry.name for entry in folder.iterdir()] == ["index"]


def make_items(num_items: int, first: int = 0) -> list[Item]:
    return [
        Item(number, (number % 256, number // 256), number % 5, ["tag"] * (number % 3))
        for number in range(first, first + num_items)
    ]


def test_many_small_parts_become_few_full_ones_and_one_row_group_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, items, rows, add = tmp_path / "index", make_items(25), [], PartWriter.add
    write_items(path, items, "int64", rows_per_part=4)
    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "add", lambda s, table: rows.append(len(table)) or add(s, table))
        manifest = compact_index(path, rows_per_part=10)
    assert rows == [4] * 6 + [1]
    assert [part.rows for part in manifest.parts] == [10, 10, 5]
    assert manifest == CodeIndex.verify(path)
    assert items_of(CodeIndex.load(path)) == items
    assert len(compact_index(path).parts) == 1


@pytest.mark.parametrize(
    "change",
    [
        compact_index,
        lambda path: remove_from_index(path, [2]),
        lambda path: update_index(path, index_of(make_items(3), "int64")),
    ],
    ids=["compact", "remove", "update"],
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
    assert items_of(CodeIndex.load(path)) == items
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
def test_adding_opens_no_part_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_type: str
) -> None:
    items = make_items(6)
    if id_type == "string":
        items = [item._replace(id=f"photos/{item.id}.jpg") for item in items]
    path = tmp_path / "index"
    write_items(path, items[:4], id_type)
    digests = {part.sha256 for part in describe_index(path).parts}
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_metadata", None)
        assert update_index(path, index_of(items[4:], id_type)) == Growth(2, 0)
    assert digests < {part.sha256 for part in describe_index(path).parts}
    assert items_of(CodeIndex.load(path)) == items
    # Nor does a change open the parts that hold none of its ids.
    opened, read_metadata = [], pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda *a: opened.append(a) or read_metadata(*a))
    remove_from_index(path, [items[3].id])
    assert len(opened) == 2  # its own part, for the ids and to rewrite it
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
