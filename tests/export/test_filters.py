"""Tags of items as sets, and which sets a request admits."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpqn.export.search.filters import TagFilter, columns_to_read, make_tag_sets

labels = st.one_of(st.none(), st.integers(-3, 3))
words = st.one_of(st.none(), st.lists(st.sampled_from(["a", "b", "ä b", "=", ""]), max_size=4))
items = st.lists(st.tuples(labels, words), max_size=12)


def make_table(rows):
    return pa.table(
        {
            "label": pa.array([label for label, _ in rows], pa.int64()),
            "tags": pa.array([tags for _, tags in rows], pa.list_(pa.string())),
        }
    )


def hide_lists(table, rows):
    """The table with missing lists that lie over values, as other engines write them."""
    hidden = [["hidden"] if tags is None else tags for _, tags in rows]
    values = pa.array([tag for tags in hidden for tag in tags], pa.string())
    offsets = np.cumsum([0, *map(len, hidden)])
    mask = pa.array([tags is None for _, tags in rows], pa.bool_())
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)
    return table.set_column(1, "tags", lists)


def tags_of(row):
    """The tags of one item, as a set of texts."""
    label, tags = row
    own = set() if label is None else {f"label={label}"}
    return own | {f"tags={tag}" for tag in tags or []}


@settings(deadline=None)
@given(items, st.booleans())
def test_each_item_has_the_tags_of_its_set_and_equal_items_share_one(rows, hides_lists):
    table = hide_lists(make_table(rows), rows) if hides_lists else make_table(rows)
    found = make_tag_sets(table, ["label", "tags"])
    members = [set() for _ in range(found.num_sets)]
    for set_number, tag in zip(found.sets, found.tags, strict=True):
        members[set_number].add(found.names[tag])
    assert [members[number] for number in found.set_of_item] == [tags_of(row) for row in rows]
    assert len({frozenset(member) for member in members}) == found.num_sets
    assert (np.diff(found.sets) >= 0).all()


@settings(deadline=None, max_examples=25)
@given(items, st.data())
def test_a_query_admits_items_with_an_allowed_and_without_a_denied_tag(rows, data):
    known = ["label=1", "label=-2", "tags=a", "tags=ä b", "tags==", "tags=", "label=7", "", "a"]
    lists = st.lists(
        st.lists(st.sampled_from(known), min_size=3, max_size=3), min_size=2, max_size=2
    )
    allow, deny = data.draw(lists), data.draw(lists)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    tag_filter = TagFilter(make_tag_sets(make_table(rows), ["label", "tags"]), order=order)
    admission = tag_filter.admit(tf.constant(allow), tf.constant(deny))
    received = tf.transpose(admission(tf.range(len(rows))))
    for query in range(2):
        wanted, unwanted = set(allow[query]) - {""}, set(deny[query]) - {""}
        expected = [
            (not wanted or bool(wanted & tags_of(row))) and not unwanted & tags_of(row)
            for row in rows
        ]
        assert received[query].numpy().tolist() == expected
        own, positions = admission.rows(tf.constant(query))
        assert order[own].tolist() == positions.numpy().tolist()
        assert sorted(order[own]) == np.flatnonzero(expected).tolist()
        assert admission.count_items()[query] == len(own)


@pytest.mark.parametrize("number", [200, 300, 70_000])
def test_the_number_of_a_set_takes_as_few_bytes_as_can_be(number):
    table = pa.table({"name": pa.array(np.arange(number))})
    found = make_tag_sets(table, ["name"])
    assert found.num_sets == number
    assert found.set_of_item.itemsize == {200: 1, 300: 2, 70_000: 4}[number]


def test_values_of_all_kinds_become_texts():
    table = pa.table(
        {
            "b": [True, False, None, None, None],
            "f": [0.5, None, -0.0, 0.0, float("nan")],
            "h": pa.array([0.1, 1.0, 1e-7, 1e20, None], pa.float32()),
            "s": ["x", "y=z", "x", None, None],
        }
    )
    names = make_tag_sets(table, ["b", "f", "h", "s", "s"]).names.tolist()
    expected = ["b=false", "b=true", "f=0.0", "f=0.5", "h=0.1", "h=1.0", "h=1e+20", "h=1e-07"]
    assert sorted(names) == [*expected, "s=x", "s=y=z"]


@pytest.mark.parametrize("label", [["cat", "dog", "cat"], [4, 0, 4]])
def test_labels_are_filtered_by_name_where_they_have_names(label):
    table = pa.table({"label": label, "label_name": ["cat", "dog", "cat"]})
    assert columns_to_read(["label"], table.column_names) == ["label", "label_name"]
    found = make_tag_sets(table, ["label"])
    assert found.names[found.tags[found.set_of_item]].tolist() == [
        "label=cat",
        "label=dog",
        "label=cat",
    ]
    numbers = make_tag_sets(table.select(["label"]), ["label"])
    assert sorted(numbers.names) == sorted({f"label={value}" for value in label})


def test_a_column_whose_name_would_end_in_another_place_is_refused():
    table = pa.table({"a": ["b=c"], "a=b": ["c"]})
    with pytest.raises(ValueError, match="names without '='.* Received: 'a=b'"):
        make_tag_sets(table, ["a", "a=b"])


def test_a_tag_that_no_item_has_is_refused_by_name():
    table = pa.table({"label": ["cat", "dog"], "colour": [None, "grün"]})
    tag_filter = TagFilter(make_tag_sets(table, ["label", "colour"]))
    known = tf.constant([["label=cat", ""], ["colour=grün", "label=dog"]])
    np.testing.assert_array_equal(tag_filter.check_tags(known, "allow_tags"), known)
    words = r"allow_tags: .* such as .*label=cat, label=dog. Received unknown tags:.*label=cow"
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){words}"):
        tag_filter.check_tags(tf.constant([["label=cat", "label=cow"]]), "allow_tags")
    nothing = TagFilter(make_tag_sets(table.slice(0, 0), ["label"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="deny_tags.* that items"):
        nothing.check_tags(tf.constant([["label=cat"]]), "deny_tags")
