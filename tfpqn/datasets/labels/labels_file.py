"""Labels, splits and groups of items from a table: what is known beside a folder or an array."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from tfpqn.datasets.image_set import ImageSet
from tfpqn.datasets.labels.numbering import number_labels, sort_names
from tfpqn.datasets.labels.text_columns import row_number
from tfpqn.datasets.splits import Splits, split_as_told, split_folder

_Set = TypeVar("_Set", bound=ImageSet)


@dataclass(frozen=True)
class LabelsFile:
    """What a table says about items, row by row.

    Give a set its labels first, then leave out what cannot be read, then split:

        labels_file = read_labels("labels.csv")
        images = labels_file.apply(ImageFolder("photos", (64, 64, 3))).readable()
        splits = labels_file.split(images)

    Attributes:
        path: The file, for messages.
        ids: Name of each row's item, unlike all others.
        labels: Each row's labels; none, one or several.
        splits: Each row's part: "train", "database" or "query". None without such a column.
        groups: Each row's group, empty where it is alone. None without such a column.
    """

    path: Path
    ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels of the file, sorted as people do: "2" stands before "10"."""
        return sort_names(self.labels)

    @property
    def is_multi_label(self) -> bool:
        """Whether an item has more than one label."""
        return any(len(row) > 1 for row in self.labels)

    def apply(
        self,
        items: _Set,
        missing: Literal["error", "unlabelled"] = "error",
        *,
        partial: bool = False,
    ) -> _Set:
        """The set with the labels of the file in place of its own.

        Args:
            items: Images, clips or vectors. A row of the file belongs to the item whose id is the
                same text: `a/b.jpg` in a folder, or a row number in an array.
            missing: What becomes of items that the file does not name: an error, or they have no
                label.
            partial: Whether the file may name others too, such as items that are still to come.

        Returns:
            A set with int64 labels `[num_items]` (-1 without a label) if no item of the file has
            more than one, else with uint8 multi-hot rows `[num_items, num_labels]`.

        Raises:
            ValueError: The file names an item that the set does not have and `partial` is False, or
                does not name one that it has and `missing` is "error".
        """
        if missing not in ("error", "unlabelled"):
            raise ValueError(f"missing must be 'error' or 'unlabelled'. Received: {missing!r}")
        if not partial:
            self._require_known(items)
        rows = self._find_rows(items)
        if missing == "error":
            self._require_named(items, rows)
        part = copy.copy(items)
        chosen = [self.labels[row] if row >= 0 else () for row in rows]
        part.labels = number_labels(chosen, self.label_names, several=self.is_multi_label)
        part.label_names = self.label_names
        return part

    def split(
        self,
        items: ImageSet,
        query_share: float = 0.1,
        *,
        labelled: bool = True,
        known: Mapping[str, bool] | None = None,
    ) -> Splits:
        """The parts that the file's column `split` tells, or those that `split_folder` makes.

        Args:
            items: What `apply` gave, or a part of it.
            query_share: See `split_folder`; only of use without a column `split`.
            labelled: Whether the labels matter. If so, only items that have one are trained on.
            known: See `split_folder`; only of use without a column `split`.

        Raises:
            ValueError: The file does not name an item, a part is empty, or what `split_folder`
                refuses.
        """
        rows = self._find_rows(items)
        self._require_named(items, rows)
        if self.splits is not None:
            names = np.array(self.splits, object)[rows]
            has_database = "database" in self.splits
            return split_as_told(items, names, has_database=has_database, labelled=labelled)
        groups = self._groups_of(rows)
        return split_folder(items, query_share, labelled=labelled, groups=groups, known=known)

    def _find_rows(self, items: ImageSet) -> np.ndarray:
        """Row of each item, -1 where the file does not name it: int64 `[num_items]`."""
        rows = {id_: row for row, id_ in enumerate(self.ids)}
        return np.array([rows.get(str(id_), -1) for id_ in items.ids.tolist()], np.int64)

    def _require_known(self, items: ImageSet) -> None:
        known = set(map(str, items.ids.tolist()))
        unknown = [row for row, id_ in enumerate(self.ids) if id_ not in known]
        if unknown:
            first = f"{self.ids[unknown[0]]!r} in row {row_number(self.path, unknown[0])}"
            example = f", such as {str(items.ids[0])!r}" if len(items) else ""
            raise ValueError(
                f"{str(self.path)!r} must name items of the set in its first column{example}. "
                f"Received: {len(unknown):,} of {len(self.ids):,} names that it does not have, the "
                f"first {first}"
            )

    def _require_named(self, items: ImageSet, rows: np.ndarray) -> None:
        unnamed = np.flatnonzero(rows < 0)
        if len(unnamed):
            raise ValueError(
                f"{str(self.path)!r} must name each item of the set in its first column. Received: "
                f"{len(unnamed):,} of {len(items):,} items without a row, the first "
                f"{str(items.ids[unnamed[0]])!r}; `tfpqn index` takes such, given their "
                "folder or file"
            )

    def _groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        if self.groups is None:
            return None
        # An item without a group is one of its own, and has the place that its id gives it.
        groups = [self.groups[row] or self.ids[row] for row in rows]
        return np.array(groups, object)
