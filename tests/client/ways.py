"""The four ways to a server, behind one face: gRPC or REST, waiting or awaiting."""

import asyncio
from typing import Any

from tests.client.fake_servers import RestWire
from tfpqn.export.client import AsyncSearchClient, SearchClient
from tfpqn.export.client.rest_transport import AsyncRestTransport, RestTransport

WAYS = ("gRPC", "gRPC asyncio", "REST", "REST asyncio")


class Blocking:
    """An `AsyncSearchClient` in an event loop of its own, called like a `SearchClient`."""

    def __init__(self, client: AsyncSearchClient) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        return lambda *args, **options: self.loop.run_until_complete(method(*args, **options))

    def stop(self) -> None:
        self.loop.run_until_complete(self.client.close())

    def close(self) -> None:
        self.stop()
        self.loop.close()

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_client(way: str, address: str, model: str, wire: RestWire | None = None, **options: Any):
    """A client that goes this way, through `wire` where there is one; it never really sleeps."""
    is_async, rest = way.endswith("asyncio"), way.startswith("REST")
    client: Any = (AsyncSearchClient if is_async else SearchClient)(
        address, model, rest=rest, **options
    )
    if wire is not None:
        make = AsyncRestTransport if is_async else RestTransport
        client._transport = make(client._options, wire)
    if is_async:
        client._sleep = lambda seconds: asyncio.sleep(0)
        return Blocking(client)
    client._sleep = lambda seconds: None
    return client
