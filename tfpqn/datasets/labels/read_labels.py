"""Labels of items from a table: CSV, tab-separated or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfpqn.datasets.labels.labels_file import LabelsFile
from tfpqn.datasets.labels.numbering import labels_of
from tfpqn.datasets.labels.text_columns import read_column_names, read_columns, row_number
from tfpqn.datasets.splits import SPLIT_NAMES

SPLIT_COLUMN, GROUP_COLUMN = "split", "group"


def read_labels(path: str | Path, label_columns: Sequence[str] = ("label",)) -> LabelsFile:
    """Read labels from a table with a header: CSV, tab-separated (.tsv) or Parquet.

    The first column names the item: its path relative to the folder, its id, or its row number. The
    labels of a cell are parted by `|`; an empty cell is none. Two more columns may be there:
    `split` holds train, database or query, and items of one `group` are never parted between
    splits. Train items are database items too, unless there are database rows.

    Args:
        path: The file.
        label_columns: Columns whose labels are put together. If there is more than one, each label
            is known as `COLUMN=VALUE`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another form, lacks a column, names an item twice or not at all,
            holds another split, or parts a group.
    """
    path, label_columns = Path(path), tuple(label_columns)
    names = read_column_names(path)
    optional = [name for name in (SPLIT_COLUMN, GROUP_COLUMN) if name in names[1:]]
    wanted = [*names[:1], *label_columns, *optional]
    _require_columns(path, names, wanted, label_columns)
    cells = read_columns(path, list(dict.fromkeys(wanted)))
    id_column = names[0]
    _require_unique(path, id_column, cells[id_column])
    splits, groups = cells.get(SPLIT_COLUMN), cells.get(GROUP_COLUMN)
    if splits is not None:
        _require_split_names(path, splits)
    if splits is not None and groups is not None:
        _require_whole_groups(path, splits, groups)
    return LabelsFile(
        path,
        tuple(cells[id_column]),
        _combine_labels({name: cells[name] for name in label_columns}),
        None if splits is None else tuple(splits),
        None if groups is None else tuple(groups),
    )


def _combine_labels(columns: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Labels of each row, in the order of the columns, none of them twice."""
    prefixes = [f"{name}=" if len(columns) > 1 else "" for name in columns]
    rows = zip(*columns.values(), strict=True)
    return tuple(
        tuple(
            dict.fromkeys(
                prefix + label
                for prefix, cell in zip(prefixes, row, strict=True)
                for label in labels_of(cell)
            )
        )
        for row in rows
    )


def _require_columns(
    path: Path, names: Sequence[str], wanted: Sequence[str], label_columns: Sequence[str]
) -> None:
    if not label_columns:
        raise ValueError("label_columns must name at least one column. Received: none")
    absent = [name for name in label_columns if name not in names[1:]]
    if absent:
        raise ValueError(
            f"{str(path)!r} must have the column {absent[0]!r} after the first, which names the "
            f"items. Received: columns {list(names)}"
        )
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise ValueError(
            f"{str(path)!r} must have one column {repeated[0]!r}. Received: columns {list(names)}"
        )


def _require_unique(path: Path, column: str, ids: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for position, id_ in enumerate(ids):
        if not id_ or id_ in seen:
            former = f", as row {row_number(path, seen[id_])}" if id_ else ""
            raise ValueError(
                f"Column {column!r} of {str(path)!r} must name an item in each row, and none twice."
                f" Received: {id_!r} in row {row_number(path, position)}{former}"
            )
        seen[id_] = position
    if not seen:
        raise ValueError(f"{str(path)!r} must hold rows below its header. Received: none")


def _require_split_names(path: Path, splits: Sequence[str]) -> None:
    for position, name in enumerate(splits):
        if name not in SPLIT_NAMES:
            raise ValueError(
                f"Column {SPLIT_COLUMN!r} of {str(path)!r} must hold one of "
                f"{', '.join(SPLIT_NAMES)}. Received: {name!r} in row {row_number(path, position)}"
            )


def _require_whole_groups(path: Path, splits: Sequence[str], groups: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for position, group in enumerate(groups):
        begin = first.setdefault(group, position)
        if group and splits[position] != splits[begin]:
            raise ValueError(
                f"Items of one group must be of one split in {str(path)!r}. Received: group "
                f"{group!r} in {splits[begin]} (row {row_number(path, begin)}) and in "
                f"{splits[position]} (row {row_number(path, position)})"
            )
