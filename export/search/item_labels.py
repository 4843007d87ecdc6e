"""The labels of a collection in the graph."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from .filters import to_texts, values_of


class ItemLabels(tf.Module):
    """Translates positions into labels; each label's text is held once, an item's is a number.

    Several labels of an item are joined by "|"; for the column see `values_of`.
    """

    def __init__(self, metadata: pa.Table, column: str) -> None:
        super().__init__(name="item_labels")
        values = values_of(metadata, column, "label_column").combine_chunks()
        if pa.types.is_nested(values.type):
            values = pc.binary_join(values.cast(pa.list_(pa.string())), "|")
        encoded = pc.dictionary_encode(values)
        # A missing label is the last text, the empty one.
        texts = [*to_texts(encoded.dictionary), ""]
        numbers = pc.fill_null(encoded.indices, len(texts) - 1).to_numpy()
        self.texts = tf.Variable(tf.constant(texts, tf.string), trainable=False, name="texts")
        self.numbers = tf.Variable(numbers, trainable=False, name="numbers")

    def at(self, positions: tf.Tensor) -> tf.Tensor:
        """Labels of any shape; empty where there is no position or the item has no label."""
        last = tf.shape(self.texts)[0] - 1
        if not self.numbers.shape[0]:
            return tf.gather(self.texts, tf.fill(tf.shape(positions), last))
        numbers = tf.gather(self.numbers, tf.maximum(positions, 0))
        return tf.gather(self.texts, tf.where(positions < 0, last, numbers))
