"""Ids, labels and other columns that come with vectors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from tfpqn.datasets.image_set import number_names
from tfpqn.datasets.labels.numbering import labels_of, number_labels, sort_names


def read_ids(ids: Any) -> np.ndarray:
    """Ids as int64 or as text, each of one item.

    Raises:
        ValueError: They are of another type, or an id is missing or stands twice.
    """
    array = np.asarray(ids)
    is_text = array.dtype.kind in "UO" and all(isinstance(id_, str) for id_ in array.tolist())
    if not is_text and (array.dtype.kind not in "iu" or array.max(initial=0) > 2**63 - 1):
        kind = "missing ids" if None in array.tolist() else array.dtype
        raise ValueError(f"ids must be whole numbers of 64 bits, or text. Received: {kind}")
    values, counts = np.unique(array, return_counts=True)
    if len(values) < len(array):
        double = values.tolist()[counts.argmax()]
        raise ValueError(f"ids must be unique. Received: {double!r} {counts.max()} times")
    return array.astype(object if is_text else np.int64)


def read_labels(labels: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as numbers with their names: int64 `[num_items]`, or multi-hot where one has several.

    Args:
        labels: Text, in which `|` parts several labels, or whole numbers, `[num_items]` or
            `[num_items, 1]`, or multi-hot rows; None, "" or -1 for none.

    Raises:
        ValueError: They are of another type.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biu":
        return number_names(array, ())[0].astype(np.uint8), ()
    values = [None if label == -1 else label for label in array.tolist()]
    if array.ndim != 1 or not all(isinstance(v, (str, int, type(None))) for v in values):
        raise ValueError(
            f"labels must be text, whole numbers or multi-hot rows. Received: {array.dtype}"
        )
    rows = [[] if value is None else labels_of(str(value)) for value in values]
    names = sort_names(rows)
    several = any(len(row) > 1 for row in rows)
    return number_labels(rows, names, several=several), names


def read_columns(table: pa.Table) -> dict[str, Any]:
    """The columns that an index can keep; the others are left out with a warning.

    One with missing values stays an Arrow array: NumPy would make floats of its whole numbers.
    """
    kept = {field.name for field in table.schema if _can_be_kept(field)}
    if others := [name for name in table.column_names if name not in kept]:
        warnings.warn(
            "An index keeps columns of bool, int, float and text, of other names than 'code'. "
            f"Left out: {others}",
            stacklevel=2,
        )
    columns = {name: table[name] for name in table.column_names if name in kept}
    return {
        name: column.combine_chunks() if column.null_count else column.to_numpy()
        for name, column in columns.items()
    }


def _can_be_kept(field: pa.Field) -> bool:
    kind, is_a = field.type, pa.types
    is_text = is_a.is_string(kind) or is_a.is_large_string(kind)
    is_number = is_a.is_boolean(kind) or is_a.is_integer(kind) or is_a.is_floating(kind)
    return field.name != "code" and (is_text or is_number)
