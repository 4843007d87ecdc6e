"""Which items of a folder a run was trained on and which search, kept in the run's folder."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tfpqn.datasets import Splits
from tfpqn.files.foreign import read_json, reading
from tfpqn.files.typed_json import require_types, write_json

SPLIT_FILE = "split.json"
# Its two lists of ids.
SIDES = ("query", "rest")
EXPECTED = "the lists of the run's items, as training writes them"


@dataclasses.dataclass(frozen=True)
class SplitRecord:
    """What a run has recorded of a folder's items.

    Attributes:
        folder: The run's folder.
        is_kept: Whether there must be one: the run has begun, on a folder.
    """

    folder: Path
    is_kept: bool

    def read_sides(self) -> dict[str, bool] | None:
        """Id as text -> whether the item is a query; None where there need not be a record.

        Raises:
            ValueError: The record is damaged or missing.
        """
        content = self._read()
        if content is None:
            return None
        sides = [content[name] for name in SIDES]
        return {str(id_): ids is sides[0] for ids in sides for id_ in ids}

    def write(self, splits: Splits) -> None:
        """Write the record, with what an earlier part of the training had.

        What was trained on once counts as trained on.

        Raises:
            ValueError: The labels are others than those that training began with.
        """
        former = self._read() or {}
        labels = list(splits.train.label_names)
        if former.get("labels", labels) != labels:
            raise ValueError(
                "The label folders must be those that training began with; begin anew in another "
                f"run folder. Received: {labels}, not {former['labels']}"
            )
        known = self.read_sides() or {}
        sides = {**known, **_sides_of(splits)}
        sides |= {id_: False for id_, is_query in known.items() if not is_query}
        lists = [[id_ for id_, q in sides.items() if q is wanted] for wanted in (True, False)]
        content = former.get("content") if sides == known else splits.train.content()
        record = {**dict(zip(SIDES, lists, strict=True)), "labels": labels, "content": content}
        write_json(self.folder / SPLIT_FILE, record)

    def find_changes(self, splits: Splits) -> dict[str, int] | None:
        """How the items differ from those that training had, as a warning where they do.

        Returns:
            Numbers of items `added` and `gone`, and of `trained_queries`, which search now and were
            trained on; None where there need not be a record.
        """
        known = self.read_sides()
        if known is None:
            return None
        changes = _warn_of_changes(known, _sides_of(splits))
        former = (self._read() or {}).get("content")
        if former and not any(changes.values()) and former != splits.train.content():
            warnings.warn(
                "The training items have other contents than when training began, under the same "
                "ids; train in another run folder if that is not wanted",
                stacklevel=4,
            )
        return changes

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / SPLIT_FILE
        if not self.is_kept:
            return None
        if not path.is_file():
            raise ValueError(
                f"The run in {str(self.folder)!r} must hold {SPLIT_FILE}, which says on which "
                "items it was trained. Received: a run without it, as version 0.1 wrote them"
            )
        content = read_json(path, EXPECTED)
        with reading(path, EXPECTED):
            require_types(content, dict.fromkeys((*SIDES, "labels"), list))
            if missing := set(SIDES) - content.keys():
                raise ValueError(f"no {sorted(missing)}")
        return content


def _warn_of_changes(known: dict[str, bool], sides: dict[str, bool]) -> dict[str, int]:
    added, gone = len(sides.keys() - known.keys()), len(known.keys() - sides.keys())
    trained = sum(is_query and known.get(id_) is False for id_, is_query in sides.items())
    if added or gone or trained:
        also = f"; {trained:,} of the queries were trained on" if trained else ""
        warnings.warn(
            f"The data has changed since training ({added:,} added, {gone:,} gone or unreadable)"
            f"{also}",
            stacklevel=5,
        )
    return {"added": added, "gone": gone, "trained_queries": trained}


def _sides_of(splits: Splits) -> dict[str, bool]:
    rest = np.concatenate([splits.train.ids, splits.database.ids])
    return dict.fromkeys(map(str, splits.query.ids), True) | dict.fromkeys(map(str, rest), False)
