"""Tags of items, made from metadata columns, and the filter by tags in the graph.

Items with the same tags form one tag set. A request becomes a table that says which sets it admits;
an item is admitted by one look at that table, however many tags it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

_NUM_HASHES = 2**63 - 1


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


def make_tag_sets(metadata: pa.Table, columns: Sequence[str]) -> TagSets:
    """Collect the tags of all items.

    Args:
        metadata: One row an item.
        columns: Columns whose values become tags: bool, int, float, str or lists of str. A missing
            value gives no tag, a list one tag for each of its values.

    Raises:
        ValueError: A column is not there, or a value makes an empty tag.
    """
    names: list[str] = []
    items_of_columns, tags_of_columns = [], []
    for column in columns:
        if column not in metadata.column_names:
            raise ValueError(
                f"tag_columns must name metadata columns of the index, {metadata.column_names}. "
                f"Received: {column!r}"
            )
        items, values = _flatten(metadata[column])
        encoded = pc.dictionary_encode(values)
        items_of_columns.append(items)
        tags_of_columns.append(encoded.indices.to_numpy(zero_copy_only=False) + len(names))
        names += [f"{column}={_to_text(value)}" for value in encoded.dictionary.to_pylist()]
    items = np.concatenate([np.zeros(0, np.int64), *items_of_columns])
    tags = np.concatenate([np.zeros(0, np.int64), *tags_of_columns])
    pairs = np.unique(items * max(len(names), 1) + tags)
    return _group(pairs, metadata.num_rows, np.array(names, object))


def _flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """The row of each value that is there, and the values."""
    column = column.combine_chunks()
    rows = np.arange(len(column), dtype=np.int64)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        column = pc.list_flatten(column)
    is_there = pc.is_valid(column)
    return rows[is_there.to_numpy(zero_copy_only=False)], column.filter(is_there)


def _to_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _group(pairs: np.ndarray, num_items: int, names: np.ndarray) -> TagSets:
    """Number the different sets among `pairs`, each `item * len(names) + tag`, ascending."""
    items, tags = np.divmod(pairs, max(len(names), 1))
    counts = np.bincount(items, minlength=num_items)
    starts = np.cumsum(counts) - counts
    # State 0 has no tag; a further tag leads from state to state, equal ways to equal states.
    states = np.zeros(num_items, np.int64)
    num_states = 1
    for slot in range(counts.max(initial=0)):
        rows = np.flatnonzero(counts > slot)
        _, steps = np.unique(
            states[rows] * len(names) + tags[starts[rows] + slot], return_inverse=True
        )
        states[rows] = num_states + steps
        num_states += steps.max() + 1
    _, examples, set_of_item = np.unique(states, return_index=True, return_inverse=True)
    sizes = counts[examples]
    sets = np.repeat(np.arange(len(examples)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    entries = tags[np.repeat(starts[examples], sizes) + within]
    return TagSets(
        names,
        entries.astype(np.int32),
        sets.astype(np.int32),
        set_of_item.astype(_smallest_dtype(len(examples))),
        len(examples),
    )


def _smallest_dtype(count: int) -> type[np.integer[Any]]:
    if count <= 2**8:
        return np.uint8
    return np.uint16 if count <= 2**16 else np.int32


class TagFilter(tf.Module):
    """Says in the graph which items a query's allowed and denied tags admit.

    Args:
        tag_sets: The collection's tags.

    Raises:
        ValueError: Two tags cannot be told apart by their 63-bit hashes.
    """

    def __init__(self, tag_sets: TagSets) -> None:
        super().__init__(name="tag_filter")
        hashes = _hash(tf.constant(tag_sets.names.tolist(), tf.string)).numpy()
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        if np.any(hashes[1:] == hashes[:-1]):
            raise ValueError("tags must have different hashes. Received: two that collide")
        # Sorted by hash, so that a name is found by bisection.
        names = tag_sets.names[order].tolist()
        rank = np.argsort(order).astype(np.int32)
        self.num_tags = len(names)
        self.num_sets = tag_sets.num_sets
        self.names = tf.Variable(tf.constant(names, tf.string), trainable=False, name="tag_names")
        self.hashes = tf.Variable(hashes, trainable=False, name="tag_hashes")
        self.tags = tf.Variable(rank[tag_sets.tags], trainable=False, name="set_tags")
        self.sets = tf.Variable(tag_sets.sets, trainable=False, name="sets")
        self.set_of_item = tf.Variable(tag_sets.set_of_item, trainable=False, name="set_of_item")

    def admitted_sets(self, allow_tags: tf.Tensor, deny_tags: tf.Tensor) -> tf.Tensor:
        """Which tag sets each query admits.

        Args:
            allow_tags: string `[queries, n]`; an item needs one of them, unless there is none.
            deny_tags: string `[queries, m]`; an item may have none of them. The empty string is no
                tag, and a tag that no item has is one that no item has.

        Returns:
            bool `[num_sets, queries]`.
        """
        allows_some = tf.reduce_any(tf.not_equal(allow_tags, ""), axis=1)
        is_allowed = self._sets_with(allow_tags) | ~allows_some
        return is_allowed & ~self._sets_with(deny_tags)

    def admits_items(self, admitted: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Which of the items at `positions` `[rows]` each query admits: bool `[rows, queries]`."""
        sets = tf.cast(tf.gather(self.set_of_item, positions), tf.int32)
        return tf.gather(admitted, sets)

    def _sets_with(self, wanted: tf.Tensor) -> tf.Tensor:
        """Which sets hold one of each query's tags: bool `[num_sets, queries]`."""
        if not self.num_tags:
            return tf.zeros([self.num_sets, tf.shape(wanted)[0]], tf.bool)
        places = tf.searchsorted(self.hashes, tf.reshape(_hash(wanted), [-1]))
        places = tf.minimum(tf.reshape(places, tf.shape(wanted)), self.num_tags - 1)
        is_known = tf.equal(tf.gather(self.names, places), wanted)
        queries = tf.where(is_known)[:, 0]
        marks = tf.scatter_nd(
            tf.stack([tf.cast(tf.boolean_mask(places, is_known), tf.int64), queries], axis=1),
            tf.ones_like(queries),
            tf.cast([self.num_tags, tf.shape(wanted)[0]], tf.int64),
        )
        hits = tf.math.unsorted_segment_max(
            tf.gather(marks, self.tags), self.sets, num_segments=self.num_sets
        )
        return hits > 0


def _hash(tags: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(tags, _NUM_HASHES)
