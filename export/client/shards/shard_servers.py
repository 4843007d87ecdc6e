"""The servers of all shards and of the delta, and the versions that a request asks them for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...interface.delta import Delta
from ...interface.errors import ServingError
from ..errors import NOT_FOUND, UNAVAILABLE, Deadline
from .replicas import Replica

# Of the timeout: how long a server that says nothing may hold up what another could answer.
PATIENCE = 0.25
# Connecting takes longer than a short timeout may allow for; later requests need not.
_LEAST_PATIENCE = 1.0
# Seconds after which the servers are asked for their versions again, and while one is down.
_STATUS_SECONDS, _DOWN_SECONDS = 5.0, 1.0


class Versions(NamedTuple):
    """What a request asks for.

    Attributes:
        shards: The version of all shards.
        delta: That of the delta, which goes with it; None without a delta.
        hidden: Ids of items of the shards that the delta hides.
    """

    shards: int
    delta: int | None = None
    hidden: tuple[str | int, ...] = ()


class ShardServers:
    """The servers of each shard, in order, and those of the delta.

    Args:
        shards: The servers of each shard.
        delta: The servers of the delta, if there is one.
        timeout: Seconds in which a version has to be found.
        allow_partial: Whether a version will do that not every shard has.
        wanted: The only version that will do; None for any.
    """

    def __init__(
        self,
        shards: Sequence[Sequence[Replica]],
        delta: Sequence[Replica],
        timeout: float,
        allow_partial: bool,
        wanted: int | None,
    ) -> None:
        self.shards, self.delta = shards, delta
        self.replicas = [replica for replicas in shards for replica in replicas]
        self._timeout, self._allow_partial, self._wanted = timeout, allow_partial, wanted
        self._versions: Versions | None = None
        self._learnt = 0.0
        self._learning: asyncio.Task[Versions] | None = None

    def forget_version(self) -> None:
        """Learn anew which version to ask for, before the next request."""
        self._versions = None

    async def close(self) -> None:
        """Close all connections."""
        if self._learning is not None:
            self._learning.cancel()
        self.forget_version()
        for replica in (*self.replicas, *self.delta):
            await replica.close()

    def require_version(self, version: int) -> Versions:
        """What to ask for with this version of the shards; NOT_FOUND where it is another now."""
        if self._versions is None or self._versions.shards != version:
            raise ServingError(NOT_FOUND, f"version {version} is no longer the one to ask for")
        return self._versions

    async def choose_versions(self, deadline: Deadline) -> Versions:
        """What to ask for: the newest version that all shards have, and the delta to it."""
        versions = self._versions
        if versions is not None and self._are_held(versions):
            age = time.monotonic() - self._learnt
            if age > (_DOWN_SECONDS if self._are_restless(versions) else _STATUS_SECONDS):
                self._start_learning()
            # A delta is followed by the next within seconds: who comes back after a pause waits.
            if not self.delta or age <= _STATUS_SECONDS:
                return versions
        learning = self._start_learning()
        while not learning.done():
            await asyncio.wait({learning}, timeout=deadline.remaining())
        return learning.result()

    def _are_held(self, versions: Versions) -> bool:
        """Whether as many servers still have the versions as have to."""
        held = [versions.shards in _versions_of(replicas) for replicas in self.shards]
        if self._allow_partial:
            return any(held)
        return all(held) and (not self.delta or versions.delta in _versions_of(self.delta))

    def _are_restless(self, versions: Versions) -> bool:
        """Whether newer versions may come at any moment, or servers be back."""
        return bool(self.delta) or any(
            versions.shards not in replica.versions for replica in self.replicas
        )

    def _start_learning(self) -> asyncio.Task[Versions]:
        if self._learning is None or self._learning.done():
            self._learning = asyncio.ensure_future(self._learn())
            # Nobody may wait for it.
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._learning

    async def _learn(self) -> Versions:
        """Ask all servers for their versions, until all shards have one in common."""
        deadline, pause = Deadline(self._timeout), 0.1
        while True:
            seconds = max(self._timeout * PATIENCE, _LEAST_PATIENCE)
            asked = (*self.replicas, *self.delta)
            await asyncio.gather(*(replica.learn(seconds, self._timeout) for replica in asked))
            best = await self._find_best()
            if best is not None:
                self._versions, self._learnt = best, time.monotonic()
                return best
            self._require_answers()
            # Servers that go on to another version do not do so at the same instant.
            if pause >= deadline.remaining():
                raise self._no_common_version()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _DOWN_SECONDS)

    async def _find_best(self) -> Versions | None:
        """The best of what the servers have, as they last said; None if it will not do."""
        held = Counter(one for replicas in self.shards for one in _versions_of(replicas))
        known = [one for one in held if self._wanted in (None, one)]
        known = [one for one in known if self._allow_partial or held[one] == len(self.shards)]
        known.sort(key=lambda one: (held[one], one), reverse=True)
        for version in known if self.delta else ():
            if (found := await self._find_delta(version)) is not None:
                return found
        if known and (self._allow_partial or not self.delta):
            return Versions(known[0])
        return None

    async def _find_delta(self, version: int) -> Versions | None:
        """The newest delta that goes with a version of the shards."""
        shard = await _describe(self.replicas, version)
        for number in sorted(_versions_of(self.delta), reverse=True) if shard else ():
            delta: Delta | None = await _describe(self.delta, number)
            if delta is not None and shard.export_id in delta.bases:
                return Versions(version, number, delta.hidden)
        return None

    def _require_answers(self) -> None:
        """Raises the failure of a shard, or of the delta, of which no server tells its versions."""
        named = [(f"shard {number}", one) for number, one in enumerate(self.shards)]
        for name, replicas in [*named, ("the delta", self.delta)]:
            failures = [replica.failure for replica in replicas]
            if failures and failures[-1] is not None and all(failures):
                error = failures[-1]
                raise ServingError(error.code, f"{name}: {error.message}")

    def _no_common_version(self) -> ServingError:
        wanted = "a version in common" if self._wanted is None else f"version {self._wanted}"
        found = [
            f"shard {number} with {sorted(_versions_of(replicas))}"
            for number, replicas in enumerate(self.shards)
        ]
        if self.delta:
            wanted += ", and a delta that was made for it"
            found.append(f"the delta with {sorted(_versions_of(self.delta))}")
        return ServingError(
            UNAVAILABLE, f"all shards must have {wanted}. Received: {', '.join(found)}"
        )


async def _describe(replicas: Sequence[Replica], version: int) -> Any:
    """What a version is, by the first server that has it and says so; None if none does."""
    for replica in replicas:
        if version in replica.versions:
            with contextlib.suppress(ServingError):
                return (await replica.pin(version))[1]
    return None


def _versions_of(replicas: Sequence[Replica]) -> frozenset[int]:
    """The versions that some server of a shard has."""
    return frozenset().union(*(replica.versions for replica in replicas))
