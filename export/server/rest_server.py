"""uvicorn as the REST server needs it: in our event loop, on a socket of ours, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .security import TlsFiles

__all__ = ["RestServer"]

_MAX_HEAD_BYTES = 2**16


class RestServer:
    """uvicorn in the event loop that runs already, on a socket that is bound at once.

    Args:
        app: What answers.
        host: Address to listen on.
        port: Port; 0 for any free one.
        tls: Certificate and key; None for plain connections.
        max_requests: Connections at the same time; more are answered 503.

    Attributes:
        port: The port that it is bound to.

    Raises:
        OSError: The port is in use.
    """

    def __init__(
        self, app: Starlette, host: str, port: int, tls: TlsFiles | None, max_requests: int
    ) -> None:
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
                limit_concurrency=max_requests,
                **(_tls_options(tls) if tls else {}),
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
    """Closes connections whose request head never ends; the parser itself would keep all of it."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is through: what follows is the body."""
        self._head_bytes = -(2**62)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head begins."""
        self._head_bytes = 0
        super().on_message_complete()


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


def _tls_options(tls: TlsFiles) -> dict[str, Any]:
    options: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.client_authority:
        options |= {
            "ssl_ca_certs": os.fspath(tls.client_authority),
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    return options
