"""Which items are relevant to which: equal labels, or at least one shared label."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


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
    row_labels, column_labels = (
        ops.convert_to_tensor(row_labels),
        ops.convert_to_tensor(column_labels),
    )
    ranks = len(row_labels.shape), len(column_labels.shape)
    if ranks[0] != ranks[1] or ranks[0] not in (1, 2) or _widths_differ(row_labels, column_labels):
        raise ValueError(
            "Labels must be integers [batch] or multi-hot [batch, num_labels], alike on both "
            f"sides. Received: shapes {tuple(row_labels.shape)} and {tuple(column_labels.shape)}"
        )
    if ranks[0] == 2 and row_labels.shape[1] != 1:
        shared = ops.matmul(_as_float(row_labels), ops.transpose(_as_float(column_labels)))
        return shared > 0.5
    # Compared in their own dtype: as float32, ids beyond 2**24 would merge.
    return ops.equal(ops.reshape(row_labels, (-1, 1)), ops.reshape(column_labels, (1, -1)))


def _as_float(multi_hot: Tensor) -> Tensor:
    return ops.cast(ops.cast(multi_hot, "float32") > 0, "float32")


def _widths_differ(row_labels: Tensor, column_labels: Tensor) -> bool:
    widths = tuple(row_labels.shape[1:]), tuple(column_labels.shape[1:])
    return None not in (*widths[0], *widths[1]) and widths[0] != widths[1]
