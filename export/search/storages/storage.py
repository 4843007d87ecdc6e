"""How a collection's codes lie in the graph, and with that how they are searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..filters import Admission
from ..neighbours import Neighbours


class Queries(NamedTuple):
    """What a collection is searched with.

    Attributes:
        embeddings: float32 `[queries, embedding_dim]`, in the form that search compares.
        tables: Their lookup tables, float32 `[code_length, queries, num_codewords]`.
        admits: Says which items may be found; all may if None.
        num_probes: Lists to look at, in a storage that has some; its own number if None.
    """

    embeddings: tf.Tensor
    tables: tf.Tensor
    admits: Admission | None = None
    num_probes: int | tf.Tensor | None = None

    def of(self, numbers: tf.Tensor) -> Queries:
        """The queries of these numbers `[count]`."""
        return self._replace(
            embeddings=tf.gather(self.embeddings, numbers),
            tables=tf.gather(self.tables, numbers, axis=1),
            admits=None if self.admits is None else self.admits.of(numbers),
        )


class Storage(tf.Module, ABC):
    """The codes of a collection, searchable.

    All storages find the same items, of those that they look at: sums in the order of the code
    positions, equal scores in ascending position.

    Attributes:
        num_items: Number of items.
        num_lists: Number of lists, of which a search looks at a few; None if there are none.
        order: The position of each row, negative where there is none; None where rows are
            positions, or what filters have in their place.
        report: What was measured when the storage was chosen, for the manifest.
        embeddings: float16 `[num_items, embedding_dim]`, where they are kept; else None.
    """

    num_items: int
    num_lists: int | None = None
    order: np.ndarray | None
    report: dict[str, Any] = {}
    embeddings: tf.Variable | None = None

    @abstractmethod
    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """The best items of each query, `top_k` of them, at least 1."""

    @abstractmethod
    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        """int32 codes `[batch, code_length]` of the items at positions int32 `[batch]`."""

    def embeddings_at(self, positions: tf.Tensor) -> tf.Tensor | None:
        """float32 embeddings `[batch, embedding_dim]` of the items, where they are kept."""
        if self.embeddings is None:
            return None
        return tf.cast(tf.gather(self.embeddings, positions), tf.float32)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The storage's kind and what is to know of it, for the manifest."""


def constant(name: str, values: np.ndarray) -> tf.Variable:
    """Values that are saved beside the graph, not in it."""
    return tf.Variable(values, trainable=False, name=name)
