"""The servers of shards: which versions each has, and the first answer of several that have one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from ...interface.delta import DESCRIBE_DELTA, Delta
from ...interface.errors import ServingError
from ...interface.search_result import decode_texts
from ...interface.shard import DESCRIBE_SHARD, Shard
from ..async_client import AsyncSearchClient
from ..errors import DEADLINE_EXCEEDED, INTERNAL, NOT_FOUND, UNAVAILABLE, Deadline, read_refusal

Result = TypeVar("Result")
# What another server may answer although this one does not.
SERVER_FAILURES = frozenset({UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, "UNKNOWN"})


class Replica:
    """One server of a shard.

    Attributes:
        number: The shard's number; that of the delta comes after them.
        address: Where the server is.
        versions: What it can be asked for; empty while it does not answer.
        failure: Why it did not tell its versions when it was last asked; None if it did.
    """

    def __init__(self, number: int, address: str, client: AsyncSearchClient) -> None:
        self.number, self.address = number, address
        self.versions: frozenset[int] = frozenset()
        self.failure: ServingError | None = None
        self._client = client
        self._pinned: dict[int, tuple[AsyncSearchClient, Any]] = {}

    async def learn(self, seconds: float, timeout: float) -> None:
        """Ask which versions are available; none if the server does not say so in time."""
        try:
            statuses = await asyncio.wait_for(self._client.model_status(), seconds)
        except asyncio.TimeoutError:
            details = (
                "it did not tell its versions within the time for that, "
                f"{seconds:g} of the timeout's {timeout:g} seconds"
            )
            self.failure = read_refusal(DEADLINE_EXCEEDED, details, self.address)
        except ServingError as error:
            self.failure = error
        else:
            self.failure = None
        available = [] if self.failure else statuses
        self.versions = frozenset(one.version for one in available if one.state == "AVAILABLE")

    async def pin(self, version: int) -> tuple[AsyncSearchClient, Any]:
        """A client of one version alone, and what the server says that this one is."""
        if version not in self._pinned:
            client = self._client.at_version(version)
            try:
                description = await self._describe(client)
            except ValueError as error:
                raise ValueError(f"{self.address}: {error}") from error
            kept = {one: found for one, found in self._pinned.items() if one in self.versions}
            self._pinned = {**kept, version: (client, description)}
        return self._pinned[version]

    async def _describe(self, client: AsyncSearchClient) -> Any:
        answer = await client.predict(DESCRIBE_SHARD, {"rows": [0]})
        return Shard(
            int(answer["number"][0]),
            int(answer["num_shards"][0]),
            answer["export_id"][0].decode(),
        )

    def forget(self, version: int, error: ServingError) -> None:
        """Do not ask again, until it is learnt anew, what was just refused."""
        gone = {version} if error.code == NOT_FOUND else self.versions
        self.versions -= gone

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class DeltaReplica(Replica):
    """One server of the delta."""

    async def _describe(self, client: AsyncSearchClient) -> Any:
        answer = await client.predict(DESCRIBE_DELTA, {"rows": [0]})
        bases, hidden = decode_texts(answer["bases"][0]), answer["hidden_ids"][0]
        hidden = decode_texts(hidden) if hidden.dtype == object else hidden
        return Delta(tuple(bases.tolist()), tuple(hidden.tolist()))


async def ask_first(
    replicas: Sequence[Replica],
    version: int,
    ask: Callable[[Replica], Awaitable[Result]],
    deadline: Deadline,
    hedge_after: float | None,
) -> Result:
    """The first answer of servers, at least one, that could all give it.

    The next one is asked when one fails, and one more when all are silent for `hedge_after`
    seconds; whoever is late is told to stop.

    Raises:
        ServingError: The request is at fault, time is over, or all failed; then the last failure.
    """
    waiting, num_due = list(replicas), 1
    asked: dict[asyncio.Future[Result], Replica] = {}
    try:
        while True:
            seconds = _remaining(deadline, asked.values())
            for replica in waiting[:num_due]:
                asked[asyncio.ensure_future(ask(replica))] = replica
            del waiting[:num_due]
            if waiting and hedge_after is not None:
                seconds = min(seconds, hedge_after)
            done, _ = await asyncio.wait(
                asked, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            # After a failure the next one is due; after silence too, but only once.
            num_due = len(done) or 1
            if not done:
                hedge_after = None
            for task in done:
                replica = asked.pop(task)
                try:
                    return task.result()
                except ServingError as error:
                    if error.code not in SERVER_FAILURES | {NOT_FOUND}:
                        raise
                    replica.forget(version, error)
                    if not (waiting or asked):
                        raise
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _remaining(deadline: Deadline, asked: Iterable[Replica]) -> float:
    """Seconds left; when there are none, a ServingError that names who did not answer."""
    try:
        return deadline.remaining()
    except ServingError as error:
        late = ", ".join(replica.address for replica in asked)
        raise read_refusal(error.code, error.message, late) if late else error from None


def read_addresses(shards: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """The addresses of each shard's servers."""
    if isinstance(shards, str):
        raise TypeError(f"shards must be a list, an entry for each shard. Received: {shards!r}")
    addresses = [[shard] if isinstance(shard, str) else list(shard) for shard in shards]
    if not addresses or not all(addresses):
        raise ValueError(
            f"shards must name at least one address for each shard. Received: {list(shards)}"
        )
    return addresses
