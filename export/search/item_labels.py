"""The labels of a collection in the graph."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from .filters import flatten, to_texts, values_of


class ItemLabels(tf.Module):
    """Translates positions into labels; each label's text is held once, an item's is a number.

    Several labels of an item are joined by "|"; for the column see `values_of`.
    """

    def __init__(self, metadata: pa.Table, column: str) -> None:
        super().__init__(name="item_labels")
        values = values_of(metadata, column, "label_column")
        items, labels = flatten(values)
        if pa.types.is_nested(values.type):
            every = np.arange(len(values) + 1)
            splits = pa.array(np.searchsorted(items, every), pa.int32())
            lists = pa.ListArray.from_arrays(splits, labels.cast(pa.string()))
            items, labels = every[:-1], pc.binary_join(lists, "|")
        encoded = pc.dictionary_encode(labels)
        # A missing label is the last text, the empty one.
        texts = [*to_texts(encoded.dictionary), ""]
        numbers = np.full(len(values), len(texts) - 1, np.int32)
        numbers[items] = encoded.indices
        self.texts = tf.Variable(tf.constant(texts, tf.string), trainable=False, name="texts")
        self.numbers = tf.Variable(numbers, trainable=False, name="numbers")

    def at(self, positions: tf.Tensor) -> tf.Tensor:
        """Labels of any shape; empty where there is no position or the item has no label."""
        last = tf.shape(self.texts)[0] - 1
        if not self.numbers.shape[0]:
            return tf.gather(self.texts, tf.fill(tf.shape(positions), last))
        numbers = tf.gather(self.numbers, tf.maximum(positions, 0))
        return tf.gather(self.texts, tf.where(positions < 0, last, numbers))
