"""Laws of former states of an index: without what is hidden, and with the items, each is the
present one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.small_index import (
    COLUMN_TYPES,
    ID_KINDS,
    Item,
    index_of,
    items_of,
    items_with,
    make_items,
    write_index,
)
from tfpqn.index import (
    CodeIndex,
    compact_index,
    compare_index,
    copy_index,
    describe_index,
    remove_from_index,
    update_index,
)

COLUMNS = tuple(COLUMN_TYPES)


@pytest.mark.parametrize("id_type", sorted(ID_KINDS))
@given(data=st.data())
@settings(max_examples=10)
def test_each_former_state_without_the_hidden_and_with_the_items_is_the_present_one(
    id_type, data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("states")
    path, states = folder / "index", []
    write_index(path, index_of(data.draw(items_with(ID_KINDS[id_type])), id_type))
    for number in range(data.draw(st.integers(1, 3))):
        states.append(folder / str(number))
        copy_index(path, states[-1])
        for change in data.draw(st.lists(st.sampled_from(["update", "remove"]), max_size=2)):
            items = index_of(data.draw(items_with(ID_KINDS[id_type])), id_type)
            if change == "update":
                update_index(path, items, rows_per_part=2)
            else:
                known = set(CodeIndex.load(path).ids.tolist())
                gone = [item for item in items_of(items) if item.id in known]
                remove_from_index(path, index_of(gone, id_type).ids, rows_per_part=2)
    present = {item.id: item for item in items_of(CodeIndex.load(path))}
    found = compare_index(path, states, COLUMNS)
    for state in states:
        former = {item.id: item for item in items_of(CodeIndex.load(state))}
        kept = {id_: item for id_, item in former.items() if id_ not in found.hidden.to_pylist()}
        assert kept | {item.id: item for item in items_of(found.items)} == present
        assert all(item == present[id_] for id_, item in kept.items()), "no item has two codes"


def test_what_is_compared_grows_with_the_changes_alone(tmp_path):
    path, state, items = tmp_path / "index", tmp_path / "state", make_items(9)
    write_index(path, index_of(items), rows_per_part=3)
    assert copy_index(path, state) == describe_index(path)
    assert len({file.stat().st_ino for file in state.glob("*.parquet")}) == 3
    changed = [items[0]._replace(tags=["other"]), items[1]._replace(label=77)]
    update_index(path, index_of([Item(70, (1, 2), None, None), *changed]))
    remove_from_index(path, [5])
    found = compare_index(path, [state], COLUMNS)
    assert [item.id for item in items_of(found.items)] == [70, 0, 1], "what changed comes last"
    assert sorted(found.hidden.to_pylist()) == [0, 1, 5]
    only_codes = compare_index(path, [state], ())
    assert only_codes.items.ids.tolist() == [70]
    assert only_codes.hidden.to_pylist() == [5]
    # A part that both have is not opened.
    (state / "part-00002-of-00003.parquet").unlink()
    (state / "part-00002-of-00003.parquet").write_bytes(
        (path / "part-00002-of-00004.parquet").read_bytes()[::-1]
    )
    assert compare_index(path, [state], COLUMNS).items.ids.tolist() == [70, 0, 1]


def test_a_compacted_index_is_the_same_as_it_was(tmp_path):
    path, state = tmp_path / "index", tmp_path / "state"
    write_index(path, index_of(make_items(9)), rows_per_part=2)
    copy_index(path, state)
    compact_index(path)
    found = compare_index(path, [state], COLUMNS)
    assert not len(found.items)
    assert not len(found.hidden)
