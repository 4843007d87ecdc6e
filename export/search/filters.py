"""Tags of items, made from metadata columns, and the filter by tags in the graph.

Items with the same tags form one tag set. A request becomes a table that says which sets it admits;
an item is admitted by one look at that table, however many tags it has. The items lie set after set
as well, so that those of few sets are found without a look at the others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from .groups import Groups, narrow, numbers_of_rows
from .input_checks import require
from .item_ids import ItemIds

# An index of labelled images counts labels in one column and has their names in the other.
_LABELS, _LABEL_NAMES = "label", "label_name"
# Tags that an error shows.
_MOST_EXAMPLES, _LONGEST_EXAMPLE = 9, 40


class TagSets(NamedTuple):
    """The tags of a collection.

    Attributes:
        names: Object array of str `[num_tags]`, each `"COLUMN=VALUE"`, each once.
        tags: int32 `[num_entries]`, positions in `names`, set after set.
        sets: int32 `[num_entries]`, the set of each entry, ascending.
        set_of_item: Integers `[num_items]` of the smallest fitting dtype.
        num_sets: Number of sets; one of them may be empty of tags.
    """

    names: np.ndarray
    tags: np.ndarray
    sets: np.ndarray
    set_of_item: np.ndarray
    num_sets: int


def columns_to_read(columns: Sequence[str], known: Collection[str]) -> list[str]:
    """The metadata columns that `values_of` takes the values of these columns from."""
    extra = [_LABEL_NAMES] if _LABELS in columns and _LABEL_NAMES in known else []
    return list(dict.fromkeys([*columns, *extra]))


def make_tag_sets(
    metadata: pa.Table, columns: Sequence[str], known_tags: Sequence[str] = ()
) -> TagSets:
    """Collect the tags of all items.

    Args:
        metadata: One row an item.
        columns: Columns whose values become tags: bool, int, float, str or lists of str. A missing
            value and NaN give no tag, a list one tag for each of its values. Of the numbers in
            `label` the names in `label_name` are taken, if there are some.
        known_tags: Tags that are known although no item has them.

    Raises:
        ValueError: A column is not there, or has a name with "=".
    """
    names: list[str] = []
    items_of_columns, tags_of_columns = [], []
    for column in dict.fromkeys(columns):
        if "=" in column:
            raise ValueError(
                "tag_columns must have names without '=', which ends the column's name in a tag. "
                f"Received: {column!r}"
            )
        items, values = flatten(values_of(metadata, column, "tag_columns"))
        encoded = pc.dictionary_encode(values)
        items_of_columns.append(items)
        tags_of_columns.append(encoded.indices.to_numpy(zero_copy_only=False) + len(names))
        names += [f"{column}={text}" for text in to_texts(encoded.dictionary)]
    names = list(dict.fromkeys([*names, *known_tags]))
    items = np.concatenate([np.zeros(0, np.int64), *items_of_columns])
    tags = np.concatenate([np.zeros(0, np.int64), *tags_of_columns])
    pairs = np.unique(items * max(len(names), 1) + tags)
    return _group(pairs, metadata.num_rows, np.array(names, object))


def values_of(metadata: pa.Table, column: str, argument: str) -> pa.ChunkedArray:
    """A column's values; of the numbers in `label` the names in `label_name`, if there are some.

    Raises:
        ValueError: There is no such column; the message names the argument.
    """
    if column not in metadata.column_names:
        raise ValueError(
            f"{argument} must name metadata columns of the index, {metadata.column_names}. "
            f"Received: {column!r}"
        )
    values = metadata[column]
    if column == _LABELS and _LABEL_NAMES in metadata.column_names:
        return metadata[_LABEL_NAMES] if pa.types.is_integer(values.type) else values
    return values


def flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """The row of each value that is there, and the values."""
    column = column.combine_chunks()
    rows = np.arange(len(column), dtype=np.int64)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        # Not `list_parent_indices`: it counts what lies under missing lists.
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        rows = np.repeat(rows, lengths.to_numpy(zero_copy_only=False))
        column = pc.list_flatten(column)
    if pa.types.is_floating(column.type):
        # The negative zero becomes the other one.
        column = pc.add(column, pa.scalar(0.0, column.type))
    is_there = pc.invert(pc.is_null(column, nan_is_null=True))
    return rows[is_there.to_numpy(zero_copy_only=False)], column.filter(is_there)


def to_texts(values: pa.Array) -> list[str]:
    """Values as tags and labels write them; floats in the fewest digits that tell them apart."""
    if pa.types.is_floating(values.type):
        return list(map(str, values.to_numpy(zero_copy_only=False)))
    texts = list(map(str, values.to_pylist()))
    return [text.lower() for text in texts] if pa.types.is_boolean(values.type) else texts


def _group(pairs: np.ndarray, num_items: int, names: np.ndarray) -> TagSets:
    """Number the different sets among `pairs`, each `item * len(names) + tag`, ascending."""
    items, tags = np.divmod(pairs, max(len(names), 1))
    starts = pa.array(np.searchsorted(items, np.arange(num_items + 1)), pa.int32())
    tags_of_item = pa.ListArray.from_arrays(starts, pa.array(tags).cast(pa.string()))
    # Items whose tags read the same have one set.
    encoded = pc.dictionary_encode(pc.binary_join(tags_of_item, " "))
    tags_of_set = [text.split() for text in encoded.dictionary.to_pylist()]
    sizes = np.array(list(map(len, tags_of_set)), np.int64)
    num_sets = len(tags_of_set)
    return TagSets(
        names,
        np.array([tag for own in tags_of_set for tag in own]).astype(np.int32),
        np.repeat(np.arange(num_sets, dtype=np.int32), sizes),
        narrow(encoded.indices.to_numpy(), num_sets),
        num_sets,
    )


class TagFilter(tf.Module):
    """Says in the graph which items a query's allowed and denied tags admit.

    Args:
        tag_sets: The tags of the collection.
        takes_any: Whether a tag that no item has is no error.
        order: Where the storage has its rows in another order than `tag_sets` has its items, the
            item of each row, `[num_rows]`; negative where there is none.
    """

    def __init__(
        self, tag_sets: TagSets, takes_any: bool = False, order: np.ndarray | None = None
    ) -> None:
        super().__init__(name="tag_filter")
        self._takes_any = takes_any
        names = tag_sets.names.tolist()
        self.num_tags = len(names)
        # None that is too long for a sentence.
        short = [name for name in names if len(name) <= _LONGEST_EXAMPLE and name.isprintable()]
        self.examples = sorted(short)[:_MOST_EXAMPLES]
        self.num_sets = tag_sets.num_sets
        rows = np.arange(len(tag_sets.set_of_item)) if order is None else np.flatnonzero(order >= 0)
        items = rows if order is None else order[rows]
        # Tags are found as ids are.
        self.tags = ItemIds(tag_sets.names, "string")
        # The sets of each tag; the rows of each set, beside their items where these differ.
        self.sets = Groups(tag_sets.tags, self.num_tags, "sets", tag_sets.sets)
        members = rows if order is None else np.stack([rows, items], axis=1)
        self.rows = Groups(
            tag_sets.set_of_item[items], self.num_sets, "rows", members.astype(np.int32)
        )
        self.set_of_item = tf.Variable(tag_sets.set_of_item, trainable=False, name="set_of_item")

    def check_tags(self, tags: tf.Tensor, name: str) -> tf.Tensor:
        """Tags `[queries, n]` of the input `name`, refused where no item has one.

        A tag misspelt would admit nothing, or deny nothing, without a word.
        """
        if self._takes_any:
            return tags
        is_unknown = tf.not_equal(tags, "") & (self._find(tags) < 0)
        such = f", such as {', '.join(self.examples)}" if self.examples else ""
        return require(
            tags,
            ~tf.reduce_any(is_unknown),
            f"{name}: expected tags that items of the collection have{such}. "
            "Received unknown tags:",
            tf.boolean_mask(tags, is_unknown),
        )

    def admit(self, allow_tags: tf.Tensor, deny_tags: tf.Tensor) -> Admission:
        """What each query admits.

        An item needs one of the allowed tags string `[queries, n]`, unless there is none, and may
        have none of the denied ones `[queries, m]`. The empty string is no tag.
        """
        allows_some = tf.reduce_any(tf.not_equal(allow_tags, ""), axis=1)
        is_allowed = self._sets_with(allow_tags) | ~allows_some
        return Admission(self, is_allowed & ~self._sets_with(deny_tags))

    def _sets_with(self, wanted: tf.Tensor) -> tf.Tensor:
        """Which sets hold one of each query's tags: bool `[num_sets, queries]`."""
        tags = self._find(wanted)
        queries = tf.where(tags >= 0)[:, 0]
        sets, splits = self.sets.of(tf.boolean_mask(tags, tags >= 0))
        queries = tf.gather(queries, numbers_of_rows(splits[1:] - splits[:-1]))
        return tf.tensor_scatter_nd_update(
            tf.zeros([self.num_sets, tf.shape(wanted)[0]], tf.bool),
            tf.stack([tf.cast(sets, tf.int64), queries], axis=1),
            tf.ones_like(queries, tf.bool),
        )

    def _find(self, wanted: tf.Tensor) -> tf.Tensor:
        """Numbers of tags of any shape; negative for one that no item has."""
        return tf.reshape(self.tags.positions(tf.reshape(wanted, [-1])), tf.shape(wanted))


class Admission(NamedTuple):
    """Which items queries admit.

    Attributes:
        tag_filter: The filter.
        sets: Which tag sets each query admits, bool `[num_sets, queries]`.
    """

    tag_filter: TagFilter
    sets: tf.Tensor

    def __call__(self, positions: tf.Tensor, queries: int | tf.Tensor | None = None) -> tf.Tensor:
        """For positions `[rows]` bool `[rows, queries]`, or whether the query of each admits it.

        Positions of any shape have bool of that shape, with the numbers of their queries.
        """
        sets = tf.cast(tf.gather(self.tag_filter.set_of_item, positions), tf.int32)
        if queries is None:
            return tf.gather(self.sets, sets)
        places = sets * tf.shape(self.sets)[1] + queries
        return tf.gather_nd(tf.reshape(self.sets, [-1]), tf.expand_dims(places, -1))

    def count_items(self) -> tf.Tensor:
        """Number of items that each query admits, int32 `[queries]`."""
        lengths = self.tag_filter.rows.lengths
        return tf.reduce_sum(tf.where(self.sets, lengths[:, tf.newaxis], 0), axis=0)

    def of(self, queries: tf.Tensor) -> Admission:
        """What queries `[count]` admit."""
        return self._replace(sets=tf.gather(self.sets, queries, axis=1))

    def rows(self, query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows int32 `[count]` of the items that one query admits, and their positions."""
        members, _ = self.tag_filter.rows.of(tf.where(self.sets[:, query])[:, 0])
        if len(members.shape) == 1:
            return members, members
        rows, positions = tf.unstack(members, axis=1)
        return rows, positions
