"""Laws of a collection that changes: whatever is done to an index, it equals a list of items."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.small_index import (
    COLUMN_TYPES,
    ID_KINDS,
    LAYOUT,
    Item,
    contents_of,
    flip_a_byte,
    index_of,
    items_of,
    items_with,
    make_items,
    names_in,
    write_index,
)
from tfpqn.index import (
    CodeIndex,
    CodeIndexWriter,
    Growth,
    compact_index,
    describe_index,
    remove_from_index,
    update_index,
)

WORD = Item("a", (1, 2), 3, [])
RED = CodeIndex(LAYOUT, [[1, 2]], [9], {"label": ["red"]})


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
@given(data=st.data())
@settings(max_examples=15)
def test_any_sequence_of_changes_on_disk_equals_the_same_changes_to_a_list(
    id_type, data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("growing")
    path = folder / "index"
    model = {item.id: item for item in data.draw(items_with(ID_KINDS[id_type]))}
    write_index(path, index_of(list(model.values()), id_type))
    changes = st.sampled_from(("update", "remove", "compact"))
    for change in data.draw(st.lists(changes, max_size=4)):
        options = {"rows_per_part": data.draw(st.integers(1, 4))}
        items = data.draw(items_with(ID_KINDS[id_type]))
        known = [item for item in items if item.id in model]
        if change == "update" and items:
            growth = update_index(path, index_of(items, id_type), **options)
            assert growth == Growth(len(items) - len(known), len(known))
            model |= {item.id: item for item in items}
        elif change == "remove":
            report = remove_from_index(path, index_of(known, id_type).ids, **options)
            for item in known:
                del model[item.id]
            assert report.num_items == len(model)
        elif change == "compact":
            compact_index(path, **options)
        index = CodeIndex.load(path)
        assert items_of(index) == list(model.values())
        assert (index.id_type, index.layout) == (id_type, LAYOUT)
        assert {field.name: field.type for field in index.metadata.schema} == COLUMN_TYPES
    CodeIndex.verify(path)
    assert names_in(folder) == ["index"]


def test_many_small_parts_become_few_full_ones_and_one_row_group_is_read_at_a_time(
    tmp_path, monkeypatch
):
    path, items, rows, add = tmp_path / "index", make_items(25), [], CodeIndexWriter.append_table
    write_index(path, index_of(items), rows_per_part=4)

    def note(writer, table):
        rows.append(len(table))
        add(writer, table)

    monkeypatch.setattr(CodeIndexWriter, "append_table", note)
    manifest = compact_index(path, rows_per_part=10)
    assert [number for number in rows if number] == [4] * 6 + [1]
    assert [part.rows for part in manifest.parts] == [10, 10, 5]
    assert manifest == CodeIndex.verify(path)
    assert items_of(CodeIndex.load(path)) == items
    assert len(compact_index(path).parts) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (compact_index, "part-00001-of-00003"),
        (lambda path: remove_from_index(path, [2]), "part-00001-of-00003"),
        (lambda path: update_index(path, index_of(make_items(3))), "part-00001-of-00003"),
        (lambda path: remove_from_index(path, [0, 77, 78]), "2 unknown ids, the first being 77"),
        (lambda path: remove_from_index(path, ["3"]), "'ids' .* int64. Received: string"),
        (lambda path: update_index(path, index_of([WORD], "string")), "'id' .* int64. Received: "),
        (lambda path: update_index(path, RED), "'label' .* int64. Received: string"),
    ],
)
def test_change_that_cannot_be_leaves_the_index_as_it_was(tmp_path, change, message):
    """Its second part is torn, which those that need it name."""
    path = tmp_path / "index"
    write_index(path, index_of(make_items(5)))
    flip_a_byte(path / "part-00001-of-00003.parquet")
    before = contents_of(path)
    with pytest.raises((TypeError, ValueError), match=message):
        change(path)
    assert contents_of(path) == before
    assert names_in(tmp_path) == ["index"]


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
def test_adding_opens_no_part_that_is_there(tmp_path, monkeypatch, id_type):
    items = make_items(6)
    if id_type == "string":
        items = [item._replace(id=f"photos/{item.id}.jpg") for item in items]
    path, opened, read_metadata = tmp_path / "index", [], pq.read_metadata
    write_index(path, index_of(items[:4], id_type))
    digests = {part.sha256 for part in describe_index(path).parts}
    monkeypatch.setattr(pq, "read_metadata", lambda *a: opened.append(a) or read_metadata(*a))
    assert update_index(path, index_of(items[4:], id_type)) == Growth(2, 0)
    assert not opened
    assert digests < {part.sha256 for part in describe_index(path).parts}
    # Nor does a change open the parts that hold none of its ids.
    remove_from_index(path, [items[3].id])
    assert len(opened) == 2  # its own part, for the ids and to rewrite it
    assert items_of(CodeIndex.load(path)) == items[:3] + items[4:]


def test_columns_that_new_items_lack_stay_for_known_ids_and_are_missing_for_others(
    tmp_path,
):
    items = make_items(3)
    write_index(tmp_path / "index", index_of(items))
    metadata = {"label": [8, 9], "colour": ["red", "blue"]}
    newer = CodeIndex(LAYOUT, [[5, 5], [6, 6]], [2, 50], metadata)
    assert update_index(tmp_path / "index", newer) == Growth(num_added=1, num_updated=1)
    assert items_of(CodeIndex.load(tmp_path / "index")) == [
        *items[:2],
        Item(2, (5, 5), 8, items[2].tags),
        Item(50, (6, 6), 9, None),
    ]
    # Of values that are all missing nothing says the type.
    unlabelled = CodeIndex(LAYOUT, [[7, 7]], [50], {"label": [None]})
    update_index(tmp_path / "index", unlabelled)
    assert items_of(CodeIndex.load(tmp_path / "index"))[-1] == Item(50, (7, 7), None, None)
