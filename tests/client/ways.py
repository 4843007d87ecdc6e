"""The four ways to a server, behind one face: gRPC or REST, waiting or awaiting."""

import asyncio
from typing import Any

from tfpqn.export.client import AsyncSearchClient, SearchClient
from tfpqn.export.client.rest_transport import RestTransport

WAYS = ("gRPC", "gRPC asyncio", "REST", "REST asyncio")


class Blocking:
    """An `AsyncSearchClient` in an event loop of its own, called like a `SearchClient`."""

    def __init__(self, client: AsyncSearchClient) -> None:
        self._client = client
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self.loop.run_until_complete(method(*args, **options))

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self.loop.close()


def open_client(way: str, address: str, model: str = "birds", wire: Any = None, **options: Any):
    """A client that goes this way, through `wire` where there is one."""
    is_async, rest = way.endswith("asyncio"), way.startswith("REST")
    make: Any = AsyncSearchClient if is_async else SearchClient
    client = make(address, model, rest=rest, **options)
    client = Blocking(client) if is_async else client
    if wire is not None:
        client._client._transport = RestTransport(client._client._options, is_async, wire)
    return client
