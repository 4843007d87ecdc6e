"""Which items are relevant to which: equal labels, or at least one shared label."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any

# Labels up to these, by the kind of their dtype, mean the same on every backend: JAX cuts integers
# to 32 bits, and Keras makes float32 of floats.
EXACT_UP_TO = {"i": 2**31 - 1, "u": 2**31 - 1, "f": 2**24}


def number_labels(labels: Any) -> Any:
    """Labels that every backend keeps apart: class indices where some are too large for 32 bits.

    Args:
        labels: Integers `[batch]` (or `[batch, 1]`), or multi-hot `[batch, num_labels]`. A tensor
            is given back as it is: what a backend holds has been cut already.

    Returns:
        An array of the same shape, whose labels are equal exactly where those of `labels` are.

    Raises:
        ValueError: The labels are no numbers, but names for instance.
    """
    if _is_tensor(labels):
        return labels
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            "Labels must be whole numbers or multi-hot rows. `names, labels = numpy.unique(names, "
            f"return_inverse=True)` numbers names. Received: labels of dtype {labels.dtype}"
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise ValueError(
            "Labels must be whole numbers or multi-hot rows. Received: numbers with a fraction, or "
            "not a number"
        )
    limit = EXACT_UP_TO.get(labels.dtype.kind)
    if limit is None or not labels.size or (-limit <= labels.min() and labels.max() <= limit):
        return labels
    if labels.ndim == 2 and labels.shape[1] != 1:
        return (labels > 0).astype(np.int32)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def label_relevance(row_labels: Tensor, column_labels: Tensor) -> Tensor:
    """Whether each row item and each column item belong together.

    Args:
        row_labels: Integer labels `[rows]` (or `[rows, 1]`), or multi-hot `[rows, num_labels]`.
        column_labels: The same form for the columns.

    Returns:
        Boolean tensor `[rows, columns]`: equal labels, or for multi-hot a shared label.

    Raises:
        ValueError: The labels have another rank, or the two sides have different forms.
    """
    row_labels, column_labels = _to_tensors(row_labels, column_labels)
    if len(row_labels.shape) == 2 and row_labels.shape[1] != 1:
        return _count_shared(row_labels, column_labels) > 0.5
    # Compared as integers: as float32, ids beyond 2**24 would merge.
    return ops.equal(ops.reshape(row_labels, (-1, 1)), ops.reshape(column_labels, (1, -1)))


def count_shared_labels(row_labels: Tensor, column_labels: Tensor) -> Tensor:
    """How many labels each row item and each column item have in common.

    Args:
        row_labels: Multi-hot `[rows, num_labels]`.
        column_labels: The same for the columns.

    Returns:
        float32 tensor `[rows, columns]` of whole numbers.

    Raises:
        ValueError: The labels have another rank, or the two sides have different widths.
    """
    row_labels, column_labels = _to_tensors(row_labels, column_labels)
    if len(row_labels.shape) != 2:
        raise ValueError(
            "Labels must be multi-hot [batch, num_labels]. "
            f"Received: shape {tuple(row_labels.shape)}"
        )
    return _count_shared(row_labels, column_labels)


def _to_tensors(row_labels: Any, column_labels: Any) -> tuple[Tensor, Tensor]:
    """Labels of both sides as tensors of the same form."""
    rows, columns = (
        ops.convert_to_tensor(labels) for labels in _number_alike(row_labels, column_labels)
    )
    ranks = len(rows.shape), len(columns.shape)
    if ranks[0] != ranks[1] or ranks[0] not in (1, 2) or _widths_differ(rows, columns):
        raise ValueError(
            "Labels must be integers [batch] or multi-hot [batch, num_labels], alike on both "
            f"sides. Received: shapes {tuple(rows.shape)} and {tuple(columns.shape)}"
        )
    return rows, columns


def _count_shared(row_labels: Tensor, column_labels: Tensor) -> Tensor:
    return ops.matmul(_as_float(row_labels), ops.transpose(_as_float(column_labels)))


def _is_tensor(labels: Any) -> bool:
    return bool(ops.is_tensor(labels)) or isinstance(labels, keras.KerasTensor)


def _number_alike(row_labels: Any, column_labels: Any) -> tuple[Any, Any]:
    """Labels of both sides by `number_labels`, with the same class indices."""
    if _is_tensor(row_labels) or _is_tensor(column_labels):
        return number_labels(row_labels), number_labels(column_labels)
    rows, columns = np.asarray(row_labels), np.asarray(column_labels)
    if not rows.ndim or rows.shape[1:] != columns.shape[1:]:
        return rows, columns
    both = np.concatenate([rows, columns])
    is_flat = both.ndim == 1 or both.shape[1] == 1
    if is_flat and both.dtype.kind not in (rows.dtype.kind, columns.dtype.kind):
        # Of int64 and uint64 NumPy makes floats, in which large labels merge; Python compares them.
        whole = np.concatenate([rows.astype(object), columns.astype(object)])
        both = np.unique(whole, return_inverse=True)[1].reshape(both.shape)
    both = number_labels(both)
    return both[: len(rows)], both[len(rows) :]


def _as_float(multi_hot: Tensor) -> Tensor:
    return ops.cast(ops.cast(multi_hot, "float32") > 0, "float32")


def _widths_differ(row_labels: Tensor, column_labels: Tensor) -> bool:
    widths = tuple(row_labels.shape[1:]), tuple(column_labels.shape[1:])
    return None not in (*widths[0], *widths[1]) and widths[0] != widths[1]
