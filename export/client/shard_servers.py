"""The servers of all shards, and the one version that a request asks each of them for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from ..interface.errors import ServingError
from .errors import UNAVAILABLE, Deadline
from .replicas import Replica

# Of the timeout: how long a server that says nothing may hold up what another could answer.
PATIENCE = 0.25
# Connecting takes longer than a short timeout may allow for; later requests need not.
_LEAST_PATIENCE = 1.0
# Seconds after which the servers are asked for their versions again, and while one is down.
_STATUS_SECONDS, _DOWN_SECONDS = 5.0, 1.0


class ShardServers:
    """The servers of each shard, in order.

    Args:
        shards: The servers of each shard.
        timeout: Seconds in which a version has to be found.
        allow_partial: Whether a version will do that not every shard has.
        wanted: The only version that will do; None for any.
    """

    def __init__(
        self,
        shards: Sequence[Sequence[Replica]],
        timeout: float,
        allow_partial: bool,
        wanted: int | None,
    ) -> None:
        self.shards = shards
        self.replicas = [replica for replicas in shards for replica in replicas]
        self._timeout, self._allow_partial, self._wanted = timeout, allow_partial, wanted
        self._version: int | None = None
        self._learnt = 0.0
        self._learning: asyncio.Task[int] | None = None

    def forget_version(self) -> None:
        """Learn anew which version to ask for, before the next request."""
        self._version = None

    async def close(self) -> None:
        """Close all connections."""
        if self._learning is not None:
            self._learning.cancel()
        self.forget_version()
        for replica in self.replicas:
            await replica.close()

    async def choose_version(self, deadline: Deadline) -> int:
        """The version to ask for: of those that all shards have the newest."""
        version = self._version
        held = [version in _versions_of(replicas) for replicas in self.shards]
        if version is not None and (all(held) or (self._allow_partial and any(held))):
            if self._is_old(version):
                self._start_learning()
            return version
        learning = self._start_learning()
        while not learning.done():
            await asyncio.wait({learning}, timeout=deadline.remaining())
        return learning.result()

    def _is_old(self, version: int) -> bool:
        """Whether to look, beside the requests, for newer versions and servers that are back."""
        is_down = any(version not in replica.versions for replica in self.replicas)
        return time.monotonic() - self._learnt > (_DOWN_SECONDS if is_down else _STATUS_SECONDS)

    def _start_learning(self) -> asyncio.Task[int]:
        if self._learning is None or self._learning.done():
            self._learning = asyncio.ensure_future(self._learn())
            # Nobody may wait for it.
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._learning

    async def _learn(self) -> int:
        """Ask all servers for their versions, until all shards have one in common."""
        deadline, pause = Deadline(self._timeout), 0.1
        while True:
            seconds = max(self._timeout * PATIENCE, _LEAST_PATIENCE)
            await asyncio.gather(*(replica.learn(seconds) for replica in self.replicas))
            held = Counter(one for replicas in self.shards for one in _versions_of(replicas))
            known = [one for one in held if self._wanted in (None, one)]
            best = max(known, key=lambda one: (held[one], one), default=None)
            if best is not None and (self._allow_partial or held[best] == len(self.shards)):
                self._version, self._learnt = best, time.monotonic()
                return best
            self._require_answers()
            # Servers that go on to another version do not do so at the same instant.
            if pause >= deadline.remaining():
                raise self._no_common_version()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _DOWN_SECONDS)

    def _require_answers(self) -> None:
        """Raises the failure of a shard of which no server tells its versions."""
        for number, replicas in enumerate(self.shards):
            failures = [replica.failure for replica in replicas]
            if failures[-1] is not None and all(failures):
                error = failures[-1]
                raise ServingError(error.code, f"shard {number}: {error.message}")

    def _no_common_version(self) -> ServingError:
        wanted = "a version in common" if self._wanted is None else f"version {self._wanted}"
        found = [
            f"shard {number} with {sorted(_versions_of(replicas))}"
            for number, replicas in enumerate(self.shards)
        ]
        return ServingError(
            UNAVAILABLE, f"all shards must have {wanted}. Received: {', '.join(found)}"
        )


def _versions_of(replicas: Sequence[Replica]) -> frozenset[int]:
    """The versions that some server of a shard has."""
    return frozenset().union(*(replica.versions for replica in replicas))
