"""uvicorn as the REST server needs it: in our event loop, on a socket of ours, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["RestServer"]

# Bytes of a request that are none of its body: heads, trailers and the sizes of chunks. A body may
# have as many again as it is long.
_MAX_BYTES_BESIDE_BODY = 2**16
_HEAD_SECONDS = 10.0
_REQUEST_SECONDS = 60.0


class RestServer:
    """uvicorn in the event loop that runs already, on a socket that is bound at once.

    Args:
        app: What answers.
        host: Address to listen on.
        port: Port; 0 for any free one.
        max_requests: Connections at the same time; more are answered 503.

    Attributes:
        port: The port that it is bound to.

    Raises:
        OSError: The port is in use.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, max_requests: int) -> None:
        self._socket = _bind(host, port)
        self.port = int(self._socket.getsockname()[1])
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=max_requests,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)
        if self._task.done():
            await self._task

    async def stop(self, grace_seconds: float) -> None:
        """Close the socket; requests in flight have some time."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


class _Uvicorn(uvicorn.Server):
    """Signals are left to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose requests are not through in time, or have no end to their heads.

    The parser itself would keep heads and trailers of any size, and wait for ever.
    """

    _bytes_left = _MAX_BYTES_BESIDE_BODY
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what does not belong to a body."""
        self._bytes_left -= len(data)
        super().data_received(data)
        if self._bytes_left < 0:
            self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._wait(_HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._wait(_REQUEST_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Do not count it."""
        self._bytes_left += 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is through."""
        self._wait(None)
        self._bytes_left = _MAX_BYTES_BESIDE_BODY
        super().on_message_complete()

    def _wait(self, seconds: float | None) -> None:
        """Close the connection after so long; None for never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.close) if seconds else None


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            "The address for REST must be one of this machine, and free. "
            f"Received: {host}:{port} ({error.strerror})"
        ) from error
    return bound
