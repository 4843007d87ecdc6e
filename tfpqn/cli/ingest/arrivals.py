"""Items that come into a folder or file while an index grows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpqn.cli.collections import add_items, require_own_ids
from tfpqn.cli.shared import report_skipped
from tfpqn.datasets.labelled_files import EmptyFolderError
from tfpqn.index import are_in_index

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet


class Arrivals:
    """Codes the items that an index does not have yet.

    An item that cannot be read is named once, and read again when its file has changed: it may be
    on its way. An item whose id the index has is not read.

    Args:
        network: A built network.
        index: Folder of the index that it coded.
        open_items: Opens the set of all items as it is now.
    """

    def __init__(self, network: Any, index: Path, open_items: Callable[[], ImageSet]) -> None:
        self._network, self._index, self._open_items = network, index, open_items
        # Ids that the index has, and what the files of broken items looked like.
        self._known: set[Any] = set()
        self._broken: dict[Any, Any] = {}

    def require_source(self) -> None:
        """Raise the error of a folder or file that nothing can come into."""
        with contextlib.suppress(EmptyFolderError):
            require_own_ids(self._open_items())

    def add(self) -> int:
        """Add what has come to the index; returns how many items."""
        try:
            items = self._open_items()
        except EmptyFolderError:
            self._known.clear()
            return 0
        require_own_ids(items)
        ids = items.ids.tolist()
        # A file may have gone with its item, and another may come under its name.
        self._known.intersection_update(ids)
        places = [n for n, id_ in enumerate(ids) if id_ not in self._known]
        items = items.subset(np.array(places, np.int64))
        is_known = self._find_known(items.ids)
        self._known.update(items.ids[is_known].tolist())
        is_new = [self._is_new(items, place) for place in range(len(items))]
        items = items.subset(np.flatnonzero(~is_known & np.array(is_new, bool)))
        if not len(items):
            return 0
        stamps = [items.stamp(place) for place in range(len(items))]
        num_added = self._add(items)
        self._note(items, stamps)
        return num_added

    def _find_known(self, ids: np.ndarray) -> np.ndarray:
        try:
            return are_in_index(self._index, ids)
        except TypeError as error:
            raise ValueError(str(error)) from error

    def _is_new(self, items: ImageSet, place: int) -> bool:
        id_ = items.ids[place]
        return id_ not in self._broken or items.stamp(place) != self._broken[id_]

    def _add(self, items: ImageSet) -> int:
        try:
            return add_items(self._network, items, self._index).num_added
        except ValueError:
            if len(items.skipped) < len(items):
                raise
            return 0  # None can be read.

    def _note(self, items: ImageSet, stamps: list[Any]) -> None:
        """Remember what was added and what could not be read, and name the latter."""
        for id_, stamp in zip(items.ids.tolist(), stamps, strict=True):
            if id_ in items.skipped:
                self._broken[id_] = stamp
            else:
                self._known.add(id_)
        report_skipped(items)
