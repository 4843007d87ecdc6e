"""Bounds on the requests that the server receives and holds, of gRPC and REST together."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from .errors import ServingError

__all__ = ["Bodies", "decompress", "too_large"]

Message = TypeVar("Message")

# Bodies that are held may have so many times the bytes of the largest one.
_MAX_BODIES = 4
# Smaller ones are always taken: large ones must not shut out their neighbours.
_SMALL_BYTES = 2**16
# Messages of gRPC that are received at the same time: their sizes are known at their ends only.
_MAX_ARRIVING = 4
# After so long a message gives way to those that wait.
_GIVE_WAY_SECONDS = 2.0


class Bodies:
    """Counts what requests hold and receive.

    Args:
        max_bytes: Largest body of one request.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._num_bytes = 0
        self._arriving = asyncio.Semaphore(_MAX_ARRIVING)
        self._num_waiting = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Give a function that counts bytes, which are held until the block ends.

        The function raises ServingError if the server holds too much already.
        """
        num_held = 0

        def add(num_bytes: int) -> None:
            nonlocal num_held
            num_held += num_bytes
            self._num_bytes += num_bytes
            if num_held > _SMALL_BYTES and self._num_bytes > _MAX_BODIES * self.max_bytes:
                raise _busy()

        try:
            yield add
        finally:
            self._num_bytes -= num_held

    async def receive(self, read: Callable[[], Awaitable[Message]]) -> Message:
        """Await a message, beside few others.

        Raises:
            ServingError: It came too slowly, and others waited.
        """
        self._num_waiting += 1
        try:
            await self._arriving.acquire()
        finally:
            self._num_waiting -= 1
        reading = asyncio.ensure_future(read())
        try:
            while not (await asyncio.wait([reading], timeout=_GIVE_WAY_SECONDS))[0]:
                if self._num_waiting:
                    raise _busy()
            return reading.result()
        finally:
            reading.cancel()
            self._arriving.release()


def decompress(data: bytes | bytearray, max_bytes: int) -> bytes:
    """The content of gzip data.

    Raises:
        ServingError: It is not gzip, is cut off, or its content is too large.
    """
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise _broken(str(error)) from error
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise _broken("more or less than one whole file")
    return content


def too_large(max_bytes: int) -> ServingError:
    """The refusal of a body of REST."""
    message = f"The body must have at most {max_bytes} bytes"
    return ServingError("RESOURCE_EXHAUSTED", message, http_status=413)


def _busy() -> ServingError:
    return ServingError("UNAVAILABLE", "The server holds too many large requests. Try again later")


def _broken(received: str) -> ServingError:
    return ServingError(
        "INVALID_ARGUMENT",
        f"A body of content-encoding gzip must be gzip data. Received: {received}",
    )
