"""Clients whose requests must be answered, whatever is done to the server beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import grpc.aio
import serving_tools as tools

NEIGHBOURS = {"grpc": 4, "rest": 4}


class Neighbours:
    """Clients that send correct requests all the time and check every answer.

    Attributes:
        versions: How many answers came from each version.
        failures: What went wrong, one sentence each.
    """

    def __init__(self, server: tools.Server, queries: list[tools.Query]) -> None:
        self._server = server
        self._queries = queries
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []

    async def __aenter__(self) -> Neighbours:
        for number in range(NEIGHBOURS["grpc"]):
            self._tasks.append(asyncio.create_task(self._ask_grpc(number)))
        for number in range(NEIGHBOURS["rest"]):
            self._tasks.append(asyncio.create_task(self._ask_rest(number)))
        return self

    async def __aexit__(self, *error: object) -> None:
        # Cancelling could be lost where an answer comes at that moment.
        self._is_over = True
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.failures += [repr(error) for error in done if error is not None]

    def _in_turn(self, number: int) -> Iterator[tools.Query]:
        while not self._is_over:
            yield self._queries[number % len(self._queries)]
            number += 3

    def check(self, query: tools.Query, read: Callable[[], tools.Found]) -> None:
        """Count one answer."""
        version = tools.find_version(read(), query)
        if version is None:
            self.failures.append(f"a wrong answer to {query.signature}")
        else:
            self.versions[version] += 1

    async def _ask_grpc(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._server.address, options) as channel:
            call = channel.unary_unary(tools.PREDICT)
            for query in self._in_turn(number):
                try:
                    data = await call(query.grpc_body, timeout=tools.WAIT_SECONDS)
                    self.check(query, lambda data=data: tools.read_grpc_answer(data))
                except grpc.aio.AioRpcError as error:
                    self.failures.append(f"grpc {error.code().name}: {error.details()}")
                # They share this process and the machine with what makes the faults.
                await asyncio.sleep(0.01)

    async def _ask_rest(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.rest_port)
        with contextlib.closing(writer):
            for query in self._in_turn(number):
                writer.write(tools.make_post(query.rest_body))
                status, data = await asyncio.wait_for(
                    tools.read_response(reader), tools.WAIT_SECONDS
                )
                if status == 200:
                    self.check(query, lambda data=data: tools.read_rest_answer(data))
                else:
                    self.failures.append(f"rest {status}: {data[:200]!r}")
                await asyncio.sleep(0.01)
