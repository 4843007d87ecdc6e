"""Embeddings and codes of a set of items, and samples of a set."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfpqn.datasets import ImageSet, Splits
from tfpqn.datasets.image_set import find_labelled
from tfpqn.layers.quantizer import require_at_least
from tfpqn.protocols import NetworkLike


class Encoded(NamedTuple):
    """What a network makes of a set of items.

    Attributes:
        embeddings: float32 `[items, embedding_dim]`, in the form that search compares.
        codes: Integers `[items, code_length]`.
        labels: `[items]`, or multi-hot `[items, num_labels]`.
        positions: int64 `[items]`, rows of the set: items that cannot be read are left out.
    """

    embeddings: np.ndarray
    codes: np.ndarray
    labels: np.ndarray
    positions: np.ndarray

    def take(self, rows: np.ndarray) -> Encoded:
        """The items at some positions."""
        return Encoded(*(field[rows] for field in self))


def encode_set(network: NetworkLike, images: ImageSet, batch_size: int = 256) -> Encoded:
    """Embeddings, codes and labels of the items that can be read.

    Raises:
        ValueError: No item can be read, or an embedding is not finite.
    """
    embeddings, codes, positions = [], [], []
    for batch in images.batches(images.items_per_batch(batch_size)):
        outputs = network.predict_on_batch(batch.images)
        embeddings.append(outputs["embeddings"])
        codes.append(outputs["codes"])
        positions.append(batch.positions)
    if not positions:
        raise ValueError(
            f"A set must hold {images.items.kind} that can be read. Received: none of {len(images)}"
        )
    stacked, read = np.concatenate(embeddings), np.concatenate(positions)
    if not np.isfinite(stacked).all():
        raise ValueError("The network's embeddings must be finite. Received: NaN or infinity")
    return Encoded(stacked, np.concatenate(codes), images.labels[read], read)


def keep_labelled(query: Encoded) -> Encoded:
    """The items that have a label."""
    return query.take(np.flatnonzero(find_labelled(query.labels)))


def spread(num_items: int, at_most: int) -> np.ndarray:
    """Rows of at most so many items, evenly spread: int64 `[min(num_items, at_most)]`."""
    return np.linspace(0, num_items - 1, min(num_items, at_most)).astype(np.int64)


def sample_queries(splits: Splits, at_most: int | None) -> Splits:
    """The splits with at most so many queries, evenly spread; None for all."""
    if at_most is None:
        return splits
    require_at_least("number of queries", at_most, 1)
    if len(splits.query) <= at_most:
        return splits
    rows = spread(len(splits.query), at_most)
    return dataclasses.replace(splits, query=splits.query.subset(rows))
