"""Tags of items as sets, and which sets a request admits."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpqn.export.filters import TagFilter, make_tag_sets

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


def tags_of(row):
    """The tags of one item, as a set of texts."""
    label, tags = row
    own = set() if label is None else {f"label={label}"}
    return own | {f"tags={tag}" for tag in tags or []}


@settings(deadline=None)
@given(items)
def test_each_item_has_the_tags_of_its_set_and_equal_items_share_one(rows):
    found = make_tag_sets(make_table(rows), ["label", "tags"])
    members = [set() for _ in range(found.num_sets)]
    for set_number, tag in zip(found.sets, found.tags, strict=True):
        members[set_number].add(found.names[tag])
    assert [members[number] for number in found.set_of_item] == [tags_of(row) for row in rows]
    assert len({frozenset(member) for member in members}) == found.num_sets
    assert (np.diff(found.sets) >= 0).all()


@settings(deadline=None, max_examples=50)
@given(items, st.data())
def test_a_query_admits_items_with_an_allowed_and_without_a_denied_tag(rows, data):
    known = ["label=1", "label=-2", "tags=a", "tags=ä b", "tags==", "tags=", "label=7", "", "a"]
    lists = st.lists(
        st.lists(st.sampled_from(known), min_size=3, max_size=3), min_size=2, max_size=2
    )
    allow, deny = data.draw(lists), data.draw(lists)
    tag_filter = TagFilter(make_tag_sets(make_table(rows), ["label", "tags"]))
    admitted = tag_filter.admitted_sets(tf.constant(allow), tf.constant(deny))
    received = tf.transpose(tag_filter.admits_items(admitted, tf.range(len(rows))))
    for query in range(2):
        wanted, unwanted = set(allow[query]) - {""}, set(deny[query]) - {""}
        expected = [
            (not wanted or bool(wanted & tags_of(row))) and not unwanted & tags_of(row)
            for row in rows
        ]
        assert received[query].numpy().tolist() == expected


@pytest.mark.parametrize("number", [200, 300, 70_000])
def test_the_number_of_a_set_takes_as_few_bytes_as_can_be(number):
    table = pa.table({"name": pa.array(np.arange(number))})
    found = make_tag_sets(table, ["name"])
    assert found.num_sets == number
    assert found.set_of_item.itemsize == {200: 1, 300: 2, 70_000: 4}[number]


def test_values_of_all_kinds_become_texts():
    table = pa.table({"b": [True, False], "f": [0.5, None], "s": ["x", "y=z"]})
    names = make_tag_sets(table, ["b", "f", "s"]).names.tolist()
    assert sorted(names) == ["b=false", "b=true", "f=0.5", "s=x", "s=y=z"]
