"""The client of a collection in shards that waits for each answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any

from ..blocking import BlockingCalls, Result, blocking
from .async_sharded_client import AsyncShardedSearchClient

_CLOSED = "The client is closed. Expected calls that end before `close`. Received: another one"


class ShardedSearchClient(BlockingCalls):
    """Searches a collection whose shards (`tfpqn export --shards`) several servers hold.

    A request goes to all shards at once, and what they find is merged: ids and scores are those
    that one index of all items gives. `search` with images or clips alone goes through `embed` and
    `search_by_embedding`, so its scores can differ from `search` on one server in the last digits,
    and items whose scores are almost equal can change places.

    All shards answer with one version, the newest that each of them has; if it goes away
    meanwhile, the whole request is sent again with another. That the servers hold the shards of
    one export, in this order, is checked before the first request of a version. Searches return a
    `ShardedSearchResult`, which names the version.

    With a delta, all that came, changed or went since the shards were exported is found, replaced
    or hidden as if it were in them. The delta's newest version is looked for every second, and no
    answer is given with one that was the newest more than 5 seconds ago.

    There is no `search_by_id`: only the shard that holds an item knows its code. May be used by
    several threads. Close it after use, or use it as a context manager.

    Args:
        shards: The address of each shard's server, in the order of the shards; or a list of the
            addresses of several servers that hold the same shard. One is enough with a delta.
        model: The model's name on all servers.
        delta: Address of the server of a delta (`tfpqn ingest`), or a list of those of several; it
            is asked under the name `{model}-delta`, and goes with shards that `tfpqn ingest` wrote.
            None where there is none.
        allow_partial: Whether a search without some shards is an answer. It then waits for slow
            shards until the timeout, and `missing_shards` of the result names those that are not
            in it. By default it is a ServingError.
        hedge_after: Seconds after which a request without an answer goes to the next server of
            the same shard as well; the first answer counts. Best somewhat above the usual time of
            a search, and of embedding. None to ask another server only after a failure.
        version: Number of the version to ask; the newest that all shards have if None.
        timeout: Seconds for a whole call.
        **options: The other arguments of `SearchClient`, but `version_label`.

    Raises:
        TypeError: `shards` is no list.
        ValueError: An argument is not as described.

    All calls raise what those of `SearchClient` raise.

    Example::

        shards = [["host-0:8500", "host-1:8500"], ["host-2:8500", "host-3:8500"]]
        with ShardedSearchClient(shards, "birds", hedge_after=0.05) as client:
            ids, scores = client.search([open("bird.jpg", "rb").read()])  # [1, top_k] each
    """

    def __init__(self, shards: Sequence[str | Sequence[str]], model: str, **options: Any) -> None:
        self._client = AsyncShardedSearchClient(shards, model, **options)
        self._lock, self._is_closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tfpqn-shards", daemon=True
        )
        self._thread.start()

    search = blocking(AsyncShardedSearchClient.search)
    search_by_embedding = blocking(AsyncShardedSearchClient.search_by_embedding)
    embed = blocking(AsyncShardedSearchClient.embed)
    items = blocking(AsyncShardedSearchClient.items)
    signatures = blocking(AsyncShardedSearchClient.signatures)

    def close(self) -> None:
        """Close the connections; calls of other threads end in an error. Twice does no harm."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    async def _end(self) -> None:
        # First, so that no call takes the end of its connection for a fault of a server.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def _wait_for(self, call: Coroutine[Any, Any, Result]) -> Result:
        with self._lock:
            if self._is_closed:
                call.close()
                raise RuntimeError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise
