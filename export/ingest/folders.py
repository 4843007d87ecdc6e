"""The folders of a collection that grows: its bases, what of the index they hold, its deltas."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfpqn.files.partials import remove

from ..interface.delta import DELTA_SUFFIX
from ..model.shards import shard_paths
from ..model.version_folder import VERSION, read_manifest

# Of bases, those that deltas go with; of deltas, those that a server may still be loading.
KEPT_BASES, KEPT_DELTAS = 2, 4


class Base(NamedTuple):
    """An export of an index, in shards.

    Attributes:
        number: Its version.
        export_id: What its shards have in common.
        state: Folder of the index as it was exported.
    """

    number: int
    export_id: str
    state: Path


class CollectionFolders:
    """Where bases, deltas and states of a model lie.

    For `models/birds`::

        models/birds-shard-0-of-1/3   a base, a version folder for each shard
        models/birds-states/3         the index that it holds, by links
        models/birds-delta/17         a delta

    A base counts when all its shards are there: what a killed export left does not.

    Args:
        model: The model's path, such as "models/birds"; it need not exist.
        num_shards: Servers that hold a base together.
    """

    def __init__(self, model: str | os.PathLike[str], num_shards: int) -> None:
        self.model = Path(model).resolve()
        self.num_shards = num_shards
        self.states = self.model.with_name(f"{self.model.name}-states")
        self.delta = self.model.with_name(f"{self.model.name}{DELTA_SUFFIX}")

    def list_bases(self, is_usable: Callable[[Mapping[str, Any]], bool]) -> list[Base]:
        """The whole bases with such a manifest, in order."""
        bases = []
        for number in _numbers_in(self.states):
            manifests = [_try_manifest(path) for path in self.shards_of(number)]
            shards = [manifest["shard"] or {} for manifest in manifests if is_usable(manifest)]
            ids = {str(shard.get("export_id")) for shard in shards}
            if len(shards) == self.num_shards and len(ids) == 1:
                bases.append(Base(number, ids.pop(), self.states / str(number)))
        return bases

    def shards_of(self, number: int) -> list[Path]:
        """The version folders of a base."""
        return shard_paths(self.model / str(number), self.num_shards)

    def next_base(self) -> int:
        """A number that no base has, nor ever had: a server may have loaded what was removed."""
        folders = [self.states, *(path.parent for path in self.shards_of(0))]
        return max((number for one in folders for number in _numbers_in(one)), default=0) + 1

    def next_delta(self) -> Path:
        """The folder of the next delta."""
        return self.delta / str(max(_numbers_in(self.delta), default=0) + 1)

    def newest_delta(self) -> Mapping[str, Any]:
        """The manifest of the newest delta; nothing without one."""
        numbers = _numbers_in(self.delta)
        return _try_manifest(self.delta / str(numbers[-1])) if numbers else {}

    def tidy(self, kept: set[int]) -> None:
        """Remove bases but the kept ones, what is left of others, and all but the last deltas."""
        numbers = _numbers_in(self.states)
        for number in set(numbers) - kept:
            for path in self.shards_of(number):
                remove(path)
            if number != numbers[-1]:  # The last state keeps its number from the next base.
                remove(self.states / str(number))
        for number in _numbers_in(self.delta)[:-KEPT_DELTAS]:
            remove(self.delta / str(number))


def _numbers_in(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if VERSION.fullmatch(name))


def _try_manifest(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return read_manifest(path)
    return {}
