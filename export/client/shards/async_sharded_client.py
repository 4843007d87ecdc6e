"""The client of a collection in shards that is awaited: asks all of them, merges what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tfpqn.items import ItemSpec

from ...interface.delta import DELTA_SUFFIX
from ...interface.errors import ServingError
from ...interface.search_result import SearchResult
from ...interface.shard import Shard
from ...interface.signatures import Arrays, Signature
from ..async_client import AsyncSearchClient
from ..errors import FAILED_PRECONDITION, NOT_FOUND, UNAVAILABLE, Deadline
from ..inputs import choose_signature
from .hiding import leave_out
from .merging import ShardedSearchResult, drop_hidden, merge_results
from .replicas import SERVER_FAILURES, DeltaReplica, Replica, ask_first, read_addresses
from .shard_servers import PATIENCE, ShardServers, Versions

Result = TypeVar("Result")
Ask = Callable[[AsyncSearchClient], Awaitable[Result]]
# Runs the signature of a name with inputs.
Run = Callable[[AsyncSearchClient, str, dict[str, Any]], Awaitable[Arrays]]
# Signatures that all shards answer alike.
_OF_ONE_SHARD = frozenset({"embed", "encode", "decode"})


class AsyncShardedSearchClient:
    """`ShardedSearchClient` for asyncio: the same arguments and methods, which are awaited.

    Many calls may be under way at once. All belong to one event loop, that of the first call.

    Example::

        async with AsyncShardedSearchClient(["host-0:8500", "host-1:8500"], "birds") as client:
            ids, scores = await client.search([image])
    """

    def __init__(
        self,
        shards: Sequence[str | Sequence[str]],
        model: str,
        *,
        delta: str | Sequence[str] | None = None,
        allow_partial: bool = False,
        hedge_after: float | None = None,
        version: int | None = None,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        if hedge_after is not None and not 0 <= hedge_after < float("inf"):
            raise ValueError(
                f"hedge_after must be a number of seconds. Received: hedge_after={hedge_after}"
            )
        if options.get("version_label") is not None:
            raise ValueError(
                "Shards are asked by the version's number, as a label may name another version on "
                f"each server. Received: version_label={options['version_label']!r}"
            )
        self._timeout, self._allow_partial, self._hedge_after = timeout, allow_partial, hedge_after

        def open_replicas(number: int, addresses: Sequence[str]) -> list[Replica]:
            is_delta = number == len(places)
            make, name = (DeltaReplica, f"{model}{DELTA_SUFFIX}") if is_delta else (Replica, model)
            return [
                make(number, address, AsyncSearchClient(address, name, timeout=timeout, **options))
                for address in addresses
            ]

        places = read_addresses(shards)
        replicas = [open_replicas(number, addresses) for number, addresses in enumerate(places)]
        last = [] if delta is None else open_replicas(len(places), *read_addresses([delta]))
        self._servers = ShardServers(replicas, last, timeout, allow_partial, version)
        # By version, the server that answered first and its export.
        self._exports: dict[int, tuple[str, str]] = {}
        self._turn = 0

    async def search(
        self,
        items: Sequence[Any],
        *,
        k: int | None = None,
        exclude_ids: Any = None,
        allow_tags: Any = None,
        deny_tags: Any = None,
    ) -> ShardedSearchResult:
        """Search with encoded images, clips or vectors; see `SearchClient.search`.

        Images and clips are embedded once, by one shard. No signature takes embeddings together
        with `k`, ids or tags: then each shard embeds them.
        """
        options = {"k": k, "exclude_ids": exclude_ids}
        options |= {"allow_tags": allow_tags, "deny_tags": deny_tags}
        options = {name: value for name, value in options.items() if value is not None}
        name = choose_signature(options)

        async def find(versions: Versions, deadline: Deadline) -> ShardedSearchResult:
            spec = await self._ask_one(versions, lambda client: client.items(), deadline)
            if options or not spec.has_pixels:
                values = {"items": items, **options}
                return await self._ask_all(versions, _run_rows, name, values, deadline)
            embeddings = await self._ask_one(versions, lambda client: client.embed(items), deadline)
            return await self._find_by_embedding(versions, embeddings, deadline)

        return await self._at_one_version(find)

    async def search_by_embedding(self, embeddings: Any) -> ShardedSearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not."""
        return await self._at_one_version(
            lambda versions, deadline: self._find_by_embedding(versions, embeddings, deadline)
        )

    async def embed(self, items: Sequence[Any]) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` of images, clips or vectors."""
        return await self._of_one(lambda client: client.embed(items))

    async def items(self) -> ItemSpec:
        """What the model searches with."""
        return await self._of_one(lambda client: client.items())

    async def signatures(self) -> dict[str, Signature]:
        """Names, dtypes and shapes of the model's inputs and outputs by signature."""
        return await self._of_one(lambda client: client.signatures())

    async def version(self) -> int:
        """The version that a request asks for now, the newest that all shards have."""
        return (await self._servers.choose_versions(Deadline(self._timeout))).shards

    async def predict_at(self, version: int, name: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run any signature in one version: what finds items, on all shards; else on one.

        Strings are object arrays of bytes.
        """
        self._turn += 1
        deadline = Deadline(self._timeout)
        versions = self._servers.require_version(version)
        spec = await self._ask_one(versions, lambda client: client.items(), deadline)
        if name in ("search", "serving_default") and spec.has_pixels:
            inputs = await self._ask_one(
                versions, lambda client: client.predict("embed", inputs), deadline
            )
            name = "search_by_embedding"
        if name in _OF_ONE_SHARD:
            return await self._ask_one(
                versions, lambda client: client.predict(name, inputs), deadline
            )
        found = await self._ask_all(versions, AsyncSearchClient.predict, name, inputs, deadline)
        return found.to_outputs()

    async def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        await self._servers.close()

    async def __aenter__(self) -> AsyncShardedSearchClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _of_one(self, ask: Ask[Result]) -> Result:
        return await self._at_one_version(
            lambda versions, deadline: self._ask_one(versions, ask, deadline)
        )

    async def _at_one_version(
        self, find: Callable[[Versions, Deadline], Awaitable[Result]]
    ) -> Result:
        """What a request finds, all of it in one version; from the start where that goes away."""
        deadline = Deadline(self._timeout)
        self._turn += 1
        while True:
            versions = await self._servers.choose_versions(deadline)
            try:
                return await find(versions, deadline)
            except ServingError as error:
                if error.code != NOT_FOUND:
                    raise
                self._servers.forget_version()

    async def _find_by_embedding(
        self, versions: Versions, embeddings: Any, deadline: Deadline
    ) -> ShardedSearchResult:
        values = {"embeddings": embeddings}
        return await self._ask_all(versions, _run_rows, "search_by_embedding", values, deadline)

    async def _ask_one(self, versions: Versions, ask: Ask[Result], deadline: Deadline) -> Result:
        """What every shard would answer alike, by one of them."""
        patience = self._timeout * PATIENCE if self._hedge_after is None else self._hedge_after
        return await self._ask(self._servers.replicas, versions.shards, ask, deadline, patience)

    async def _ask_all(
        self,
        versions: Versions,
        run: Run,
        name: str,
        values: Mapping[str, Any],
        deadline: Deadline,
    ) -> ShardedSearchResult:
        """The answers of all shards, and of the delta, as one."""
        hidden = versions.hidden

        async def find(client: AsyncSearchClient) -> SearchResult:
            return SearchResult.from_outputs(await run(client, name, dict(values)))

        async def find_others(client: AsyncSearchClient) -> SearchResult:
            found = await run(client, *leave_out(name, values, hidden))
            return drop_hidden(SearchResult.from_outputs(found), hidden, values.get("k"))

        asked = [
            (replicas, versions.shards, find_others if hidden else find)
            for replicas in self._servers.shards
        ]
        if self._servers.delta:
            # No server has the other number: then the delta is missing.
            number = -1 if versions.delta is None else versions.delta
            asked.append((self._servers.delta, number, find))
        tasks = [
            asyncio.ensure_future(self._ask(*one, deadline, self._hedge_after)) for one in asked
        ]
        try:
            if not self._allow_partial:
                return merge_results(await asyncio.gather(*tasks), versions)
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return _merge_what_came(tasks, versions)

    async def _ask(
        self,
        replicas: Sequence[Replica],
        version: int,
        ask: Ask[Result],
        deadline: Deadline,
        hedge_after: float | None,
    ) -> Result:
        """The first answer of servers that have the version; they take turns in being the first."""

        async def ask_replica(replica: Replica) -> Result:
            client, description = await replica.pin(version)
            if isinstance(description, Shard):
                self._require_place(replica, description, version)
            return await ask(client)

        able = [replica for replica in replicas if version in replica.versions]
        if not able:
            # Another request may have found it gone since it was chosen: all is learnt anew.
            code = UNAVAILABLE if self._allow_partial else NOT_FOUND
            raise ServingError(code, f"no server of a shard has version {version}")
        turn = self._turn % len(able)
        return await ask_first(
            [*able[turn:], *able[:turn]], version, ask_replica, deadline, hedge_after
        )

    def _require_place(self, replica: Replica, shard: Shard, version: int) -> None:
        """Raises ServingError unless a server holds what its place in the list says."""
        num_shards = len(self._servers.shards)
        if shard[:2] != (replica.number, num_shards):
            raise ServingError(
                FAILED_PRECONDITION,
                f"{replica.address} must serve shard {replica.number} of {num_shards} as version "
                f"{version}. Received: {shard}",
            )
        own = shard.export_id
        address, export_id = self._exports.setdefault(version, (replica.address, own))
        if own != export_id:
            # Nothing tells which of the two is the wrong one.
            raise ServingError(
                FAILED_PRECONDITION,
                f"all servers must serve shards of one export as version {version}. Received: "
                f"shards of different exports, {export_id} at {address} and {own} at "
                f"{replica.address}",
            )


async def _run_rows(client: AsyncSearchClient, name: str, values: dict[str, Any]) -> Arrays:
    return await client.predict_rows(name, **values)


def _merge_what_came(
    tasks: Sequence[asyncio.Task[SearchResult]], versions: Versions
) -> ShardedSearchResult:
    """The merged results of the shards that answered; raises where none did, or one refused."""
    errors = {number: error for number, task in enumerate(tasks) if (error := task.exception())}
    for error in errors.values():
        is_failure = isinstance(error, ServingError) and error.code in SERVER_FAILURES
        if not is_failure or len(errors) == len(tasks):
            raise error
    results = [task.result() for number, task in enumerate(tasks) if number not in errors]
    return merge_results(results, versions, list(errors))
