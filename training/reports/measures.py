"""What the figures of a report show: shares and projections, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .findings import Findings

NO_LABEL, SEVERAL = "no label", "several labels"


def project(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two principal components of embeddings.

    Args:
        embeddings: `[items, embedding_dim]`.

    Returns:
        Points `[items, 2]`, and the share of the variance along each axis, `[2]`.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    points, shares = np.zeros((len(centred), 2)), np.zeros(2)
    count = min(2, len(lengths))
    points[:, :count] = left[:, :count] * lengths[:count]
    variance = np.square(lengths)
    shares[:count] = variance[:count] / max(variance.sum(), 1e-300)
    return points, shares


class Labels:
    """The labels of queries and items, with their names.

    Args:
        query_labels: int64 `[queries]`, or multi-hot `[queries, num_labels]`.
        label_names: Name of each label value, or empty.

    Attributes:
        values: int64, the labels that queries have.
    """

    def __init__(self, query_labels: np.ndarray, label_names: Sequence[str] = ()) -> None:
        self._names = label_names
        self._are_multi_hot = query_labels.ndim == 2
        if self._are_multi_hot:
            self.values = np.flatnonzero((query_labels > 0).any(axis=0))
        else:
            self.values = np.unique(query_labels[query_labels >= 0])

    def name(self, value: int) -> str:
        """The name of a label value, or the value itself."""
        return str(self._names[value]) if 0 <= value < len(self._names) else str(value)

    def names_of(self, labels: np.ndarray) -> list[str]:
        """Names of the labels of one item: those of an entry, or of a multi-hot row."""
        if self._are_multi_hot:
            return [self.name(value) for value in np.flatnonzero(labels > 0).tolist()]
        return [self.name(int(labels))] if labels >= 0 else []

    def group(self, labels: np.ndarray) -> list[str]:
        """One name an item: that of its label, `NO_LABEL`, or `SEVERAL`."""
        names = [self.names_of(row) for row in labels]
        return [SEVERAL if row[1:] else row[0] if row else NO_LABEL for row in names]

    def to_multi_hot(self, labels: np.ndarray) -> np.ndarray:
        """Whether each item has each of `values`: boolean `[..., len(values)]`.

        Args:
            labels: Integers, or multi-hot with the labels along the last axis.
        """
        if self._are_multi_hot:
            return np.asarray(labels[..., self.values] > 0)
        return np.asarray(labels[..., None] == self.values)


class Confusion(NamedTuple):
    """Which labels are found for which.

    Attributes:
        names: Names of the labels.
        shares: float64 `[labels, labels]`: for queries of the row's label, the mean share of the
            items found that have the column's.
    """

    names: list[str]
    shares: np.ndarray

    def hardest(self, at_most: int) -> Confusion:
        """The labels whose queries find their own least, in their order."""
        rows = np.sort(np.argsort(np.diag(self.shares), kind="stable")[:at_most])
        return Confusion([self.names[row] for row in rows], self.shares[np.ix_(rows, rows)])

    def largest(self, at_most: int) -> list[tuple[str, str, float]]:
        """Label of the queries, another one that is found for them, and its share; most first."""
        others = np.where(np.eye(len(self.names), dtype=bool), 0.0, self.shares)
        order = np.argsort(-others, axis=None, kind="stable")[:at_most]
        pairs = zip(*np.unravel_index(order, others.shape), strict=True)
        return [
            (self.names[row], self.names[column], float(others[row, column]))
            for row, column in pairs
            if others[row, column] > 0
        ]


def confuse(findings: Findings, labels: Labels) -> Confusion:
    """Which labels are found for which, among the labels that queries have."""
    own = labels.to_multi_hot(findings.query.labels).astype(np.float64)
    shares = labels.to_multi_hot(findings.database.labels[findings.found]).mean(axis=1)
    names = [labels.name(value) for value in labels.values.tolist()]
    return Confusion(names, own.T @ shares / own.sum(axis=0)[:, None])
