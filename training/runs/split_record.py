"""Which items of a folder a run was trained on and which search, kept in the run's folder."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from tfpqn.datasets import Splits
from tfpqn.files.foreign import read_json, reading

from .json_files import require_types, write_json

SPLIT_FILE = "split.json"
# Its two lists of ids.
SIDES = ("query", "rest")


def read_split(folder: Path) -> dict[str, bool] | None:
    """Id as text -> whether the item is a query; None without a record.

    Raises:
        ValueError: The record is damaged.
    """
    path = folder / SPLIT_FILE
    if not path.is_file():
        return None
    expected = "the lists of the run's items, as training writes them"
    content = read_json(path, expected)
    with reading(path, expected):
        require_types(content, dict.fromkeys(SIDES, list))
        sides = [content[name] for name in SIDES]
    return {str(id_): ids is sides[0] for ids in sides for id_ in ids}


def record_split(folder: Path, splits: Splits, former: dict[str, bool] | None) -> None:
    """Write the record, with what an earlier part of the training had; trained on is trained on."""
    sides = {**(former or {}), **_sides_of(splits)}
    sides |= {id_: False for id_, is_query in (former or {}).items() if not is_query}
    query, rest = ([id_ for id_, q in sides.items() if q is wanted] for wanted in (True, False))
    write_json(folder / SPLIT_FILE, dict(zip(SIDES, (query, rest), strict=True)))


def warn_of_changes(known: dict[str, bool], splits: Splits) -> dict[str, int]:
    """How the items differ from those that training had, as a warning where they do.

    Returns:
        Numbers of items `added` and `gone`, and of `trained_queries`, which search now and were
        trained on.
    """
    sides = _sides_of(splits)
    added, gone = len(sides.keys() - known.keys()), len(known.keys() - sides.keys())
    trained = sum(is_query and known.get(id_) is False for id_, is_query in sides.items())
    if added or gone or trained:
        also = f"; {trained:,} of the queries were trained on" if trained else ""
        warnings.warn(
            f"The data has changed since training ({added:,} added, {gone:,} gone or unreadable)"
            f"{also}",
            stacklevel=4,
        )
    return {"added": added, "gone": gone, "trained_queries": trained}


def _sides_of(splits: Splits) -> dict[str, bool]:
    rest = np.concatenate([splits.train.ids, splits.database.ids])
    return dict.fromkeys(map(str, splits.query.ids), True) | dict.fromkeys(map(str, rest), False)
