"""From the labels of items, none, one or several each, to numbers."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from tfpqn.datasets.image_set import ImageSet

_Set = TypeVar("_Set", bound=ImageSet)

# Parts the labels of one cell.
SEPARATOR = "|"


def labels_of(cell: str) -> list[str]:
    """The labels of a cell."""
    return [label for part in cell.split(SEPARATOR) if (label := part.strip())]


def sort_names(rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All labels of the rows, sorted as people do: "2" stands before "10"."""
    return tuple(sorted({name for row in rows for name in row}, key=_natural_key))


def number_labels(
    rows: Sequence[Sequence[str]], names: Sequence[str], *, several: bool
) -> np.ndarray:
    """Labels as numbers: int64 `[num_items]`, -1 for none, or multi-hot `[num_items, num_labels]`.

    Args:
        rows: Labels of each item.
        names: All labels, in the order of their numbers.
        several: Whether an item may have more than one.
    """
    numbers = {name: number for number, name in enumerate(names)}
    if not several:
        return np.array([numbers[row[0]] if row else -1 for row in rows], np.int64)
    multi_hot = np.zeros((len(rows), len(names)), np.uint8)
    for row, own in zip(multi_hot, rows, strict=True):
        row[[numbers[name] for name in own]] = 1
    return multi_hot


def number_classes(items: _Set) -> _Set:
    """The set with the labels 0, 1, 2, .. that a classifier counts, in the order of its own ones.

    Labels that have names, and multi-hot ones, are such already; -1 stays no label.
    """
    if items.label_names or items.labels.ndim != 1:
        return items
    part, has_label = copy.copy(items), items.labels >= 0
    part.labels = np.full(len(items), -1, np.int64)
    part.labels[has_label] = np.unique(items.labels[has_label], return_inverse=True)[1]
    return part


def _natural_key(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """Order in which runs of digits count as numbers, however long they are."""
    pieces = re.findall(r"([^0-9]*)0*([0-9]*)", name)
    return [(text, len(digits), digits) for text, digits in pieces], name
