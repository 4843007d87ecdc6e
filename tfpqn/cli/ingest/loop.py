"""The work of `tfpqn ingest`, step by step: add, publish a delta, now and then export a base."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from tfpqn._text import counted
from tfpqn.cli.ingest.aside import start_aside
from tfpqn.cli.shared import console, error_console, is_user_error, one_line
from tfpqn.export.ingest.growing_model import MAX_HIDDEN, GrowingModel
from tfpqn.index import describe_index

if TYPE_CHECKING:
    from tfpqn.cli.ingest.arrivals import Arrivals
    from tfpqn.export.ingest.folders import Base

# Seconds until an export is tried again that came to nothing.
RETRY_SECONDS = 60.0


class IngestLoop:
    """Adds what comes, and exports it.

    A base is exported in a process of its own, of low priority, while deltas go on.

    Args:
        model: What is exported.
        index: Folder of its index.
        arrivals: What comes; None where others add to the index.
        most_changes: Items that come or change before the next base is exported.
        export: Exports a base, a `Base` or its fields, also in a process of its own.
    """

    def __init__(
        self,
        model: GrowingModel,
        index: os.PathLike[str],
        arrivals: Arrivals | None,
        most_changes: int,
        export: Callable[[tuple[Any, ...]], Any],
    ) -> None:
        self._model, self._index, self._arrivals = model, index, arrivals
        self._most_changes, self._export = most_changes, export
        self._base: Base | None = None
        self._process: SpawnProcess | None = None
        self._counted: Any = None
        self._not_before = 0.0
        self._error = ""

    def run(self, seconds: float | None) -> None:
        """Work once, or again after so many seconds, without end."""
        if not self._model.list_bases():
            self._export_first()
        while seconds is not None:
            self._try(self.step)
            time.sleep(seconds)
        self.step()
        while self._process is not None:
            self._process.join()
            self.step()

    def step(self) -> None:
        """Look once at everything."""
        self._end_export()
        try:
            num_added = self._arrivals.add() if self._arrivals else 0
            if num_added:
                console.print(f"{counted(num_added, 'items')} added")
        finally:
            # What others add and remove does not wait for a folder that cannot be read.
            self._publish()
        if self._process is None and self._is_base_due():
            self._base = self._model.begin_base()
            self._publish()
            # A plain tuple: the class would import Keras there before it can be kept quiet.
            self._process = start_aside(self._export, tuple(self._base))
            console.print(f"Exporting base {self._base.number} in the background")

    def _export_first(self) -> None:
        """Nothing can be searched yet, so nothing goes on beside it."""
        base = self._model.begin_base()
        self._publish(base)
        self._export(base)
        self._tell_of(base)

    def _publish(self, base: Base | None = None) -> None:
        path = self._model.publish_delta(base or self._base)
        if path is not None:
            manifest = self._model.folders.newest_delta()
            hidden = manifest["delta"]["num_hidden"]
            console.print(
                f"Delta {path.name}: {counted(manifest['num_items'], 'items')}, {hidden:,} hidden"
            )
            self._model.tidy(base or self._base)

    def _is_base_due(self) -> bool:
        """Whether much has changed since the newest base, if there is one; looks only where the
        index has changed."""
        manifest = describe_index(self._index)
        if manifest == self._counted or time.monotonic() < self._not_before:
            return False
        if not self._model.list_bases():
            return True
        num_items, num_hidden = self._model.count_changes()
        if num_hidden > MAX_HIDDEN:
            error_console.print(
                f"{num_hidden:,} items are gone or changed, and a delta can hide {MAX_HIDDEN}: "
                "searches show this with the next base"
            )
        if num_items >= self._most_changes or num_hidden > MAX_HIDDEN // 2:
            return True
        self._counted = manifest
        return False

    def _end_export(self) -> None:
        if self._base is None or self._process is None or self._process.is_alive():
            return
        status, base = self._process.exitcode, self._base
        self._process = self._base = None
        is_usable = any(one.number == base.number for one in self._model.list_bases())
        if status or not is_usable:
            self._not_before = time.monotonic() + RETRY_SECONDS
            raise ValueError(
                f"The export of base {base.number} must end well, and answer as deltas do. "
                f"Received: status {status}{'' if is_usable else ', no base that deltas go with'}"
            )
        self._tell_of(base)

    def _tell_of(self, base: Base) -> None:
        items = counted(describe_index(base.state).num_items, "items")
        console.print(f"Base {base.number}: {items}")
        self._model.tidy()

    def _try(self, step: Callable[[], None]) -> None:
        """What goes wrong once, such as an index that another process writes, is tried again."""
        try:
            step()
            self._error = ""
        except Exception as error:
            if not is_user_error(error):
                raise
            message = one_line(error)
            # Files that are being written have names of their own each time.
            key = re.sub(r"[0-9a-f]{8,}", "", message)
            if key != self._error:
                error_console.print(f"tfpqn: error: {message}")
            self._error = key
