"""The local server: gRPC and REST in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.batching_parameters import BatchingParameters
from . import event_loop
from .bodies import Bodies
from .grpc_service import Health, add_services, make_grpc_server
from .hosts import HostCheck, is_loopback
from .metrics import Metrics
from .predictor import Predictor
from .rest import make_app
from .rest_server import RestServer
from .runner import Runner
from .versions import ModelVersions

__all__ = ["ModelServer", "running_server"]

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 2**20
# Requests that are in the server at the same time, through gRPC and through REST.
MAX_REQUESTS = 1024


class ModelServer:
    """Serves one model's folder as TensorFlow Serving does, for development and tests.

    Args:
        model_base_path: The model's folder, with numbered version folders in it.
        model_name: Name of the model; the folder's name by default.
        host: Address to listen on. Everyone in the network can reach others than loopback.
        port: Port of gRPC; 0 for any free one.
        rest_api_port: Port of REST; 0 for any free one, None for no REST.
        batching: How requests are merged; None to run each alone.
        file_system_poll_wait_seconds: Time between two looks at the folder.
        version_labels: Version numbers by label; these versions are loaded besides the newest.
        max_message_bytes: Largest request and answer, in bytes.
        allowed_hosts: Names that requests of REST may have for this machine, besides `host` and
            those of the loopback address.

    Attributes:
        port: After `start` the port that gRPC is bound to.
        rest_port: After `start` the port that REST is bound to; None without REST.

    Raises:
        ValueError: An argument is out of range.

    Example:

    >>> async with ModelServer("models/birds", port=0, rest_api_port=0) as server:
    ...     print(server.port, server.rest_port)
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        *,
        model_name: str | None = None,
        host: str = "127.0.0.1",
        port: int = 8500,
        rest_api_port: int | None = 8501,
        batching: BatchingParameters | None = None,
        file_system_poll_wait_seconds: float = 1.0,
        version_labels: Mapping[str, int] | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._base_path = Path(model_base_path)
        self.model_name = model_name or self._base_path.resolve().name
        self._host = host
        self._wanted_ports = (_checked_port("port", port), _checked_rest_port(rest_api_port))
        self.port: int | None = None
        self.rest_port: int | None = None
        self._batching = batching and _leave_a_core(batching)
        self._hosts = HostCheck(host, allowed_hosts)
        self._max_message_bytes = _checked_size(max_message_bytes)
        self._metrics = Metrics(self.model_name)
        self._health = Health()
        self._health_task: asyncio.Task[None] | None = None
        self._versions = ModelVersions(
            self.model_name,
            self._base_path,
            labels=version_labels or {},
            poll_seconds=_checked_seconds(file_system_poll_wait_seconds),
            on_change=self._show_versions,
        )
        self._runner: Runner | None = None
        self._grpc: Any = None
        self._rest: RestServer | None = None

    @property
    def available_versions(self) -> list[int]:
        """Numbers of the versions that are served, ascending."""
        return self._versions.available

    async def start(self) -> None:
        """Bind the ports, load the newest version and answer requests.

        Without a version that can be loaded the server starts as well, says so in its log, and
        answers NOT_FOUND until there is one.

        Raises:
            FileNotFoundError: There is no such folder.
            OSError: A port is in use.
            ValueError: The folder is that of a version.
        """
        if (self._base_path / "saved_model.pb").is_file():
            raise ValueError(
                "The model's base path must be the folder that holds the versions, models/NAME. "
                f"Received: a version, {str(self._base_path)!r}"
            )
        if not self._base_path.is_dir():
            raise FileNotFoundError(
                "The model's base path must be a folder with numbered versions in it. "
                f"Received: {str(self._base_path)!r}"
            )
        if not is_loopback(self._host):
            logger.warning(
                "Listening on %s: whoever reaches it can search and read the collection", self._host
            )
        try:
            await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> None:
        num_threads = os.cpu_count() or 1
        if self._batching:
            num_threads = max(num_threads, self._batching.num_batch_threads)
        self._runner = Runner(num_threads)
        predictor = Predictor(
            self._versions, self._runner, self._batching, self._metrics.count_batch
        )
        bodies = Bodies(self._max_message_bytes)
        self._grpc = make_grpc_server(self._max_message_bytes, MAX_REQUESTS)
        add_services(self._grpc, predictor, self._metrics, self._health, bodies)
        grpc_port, rest_port = self._wanted_ports
        self.port = self._bind_grpc(grpc_port)
        if rest_port is not None:
            app = make_app(predictor, self._metrics, self._hosts, bodies)
            self._rest = RestServer(app, self._host, rest_port, MAX_REQUESTS)
            self.rest_port = self._rest.port
        await self._health.set_serving(False)
        await self._versions.start()
        if not self.available_versions:
            logger.warning("No version in %s can be served yet", self._base_path)
        await self._grpc.start()
        if self._rest:
            await self._rest.start()

    def _bind_grpc(self, port: int) -> int:
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{port}"
        try:
            bound = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(
                "The address for gRPC must be one of this machine, and free. "
                f"Received: {address} ({error})"
            ) from error
        if not bound:
            raise OSError(
                f"The address for gRPC must be one of this machine, and free. Received: {address}"
            )
        return int(bound)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Refuse new requests, give those in flight some time, unload and free the ports."""
        await self._health.set_serving(False)
        stops = []
        if self._grpc is not None:
            stops.append(self._grpc.stop(grace_seconds))
        if self._rest is not None:
            stops.append(self._rest.stop(grace_seconds))
        await asyncio.gather(*stops)
        await self._versions.stop()
        if self._health_task is not None:
            await asyncio.gather(self._health_task, return_exceptions=True)
        if self._runner is not None:
            self._runner.close()

    async def __aenter__(self) -> ModelServer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    def _show_versions(self, numbers: list[int]) -> None:
        self._metrics.show_versions(numbers)
        self._health_task = asyncio.create_task(self._health.set_serving(bool(numbers)))


@contextlib.contextmanager
def running_server(*arguments: Any, **options: Any) -> Iterator[ModelServer]:
    """Run a `ModelServer` in a thread of its own, for programs without an event loop.

    Takes what `ModelServer` takes; the block is entered when the server answers.
    """
    server = ModelServer(*arguments, **options)
    started: dict[str, Any] = {}
    is_started = threading.Event()

    async def serve() -> None:
        started["loop"] = asyncio.get_running_loop()
        started["stop"] = stop = asyncio.Event()
        async with server:
            is_started.set()
            await stop.wait()

    def run() -> None:
        try:
            event_loop.run(serve())
        except BaseException as error:
            started["error"] = error
        finally:
            is_started.set()

    thread = threading.Thread(target=run, name="tfpqn-server")
    thread.start()
    is_started.wait()
    try:
        if "error" not in started:
            yield server
    finally:
        if "stop" in started and thread.is_alive():
            with contextlib.suppress(RuntimeError):
                started["loop"].call_soon_threadsafe(started["stop"].set)
        thread.join()
    if "error" in started:
        raise started["error"]


def _checked_port(name: str, port: int) -> int:
    if not 0 <= port < 2**16:
        raise ValueError(f"{name} must be in 0 .. 65535. Received: {name}={port}")
    return port


def _checked_rest_port(port: int | None) -> int | None:
    return None if port is None else _checked_port("rest_api_port", port)


def _leave_a_core(batching: BatchingParameters) -> BatchingParameters:
    """Requests are read and answered in one thread, which needs a core besides the batches."""
    cores = max((os.cpu_count() or 1) - 1, 1)
    return dataclasses.replace(batching, num_batch_threads=min(batching.num_batch_threads, cores))


def _checked_size(size: int) -> int:
    if not 1024 <= size < 2**31:
        raise ValueError(
            f"max_message_bytes must be in 1024 .. {2**31 - 1}. Received: max_message_bytes={size}"
        )
    return size


def _checked_seconds(seconds: float) -> float:
    if not 0 < seconds < 86400:
        raise ValueError(
            "file_system_poll_wait_seconds must be above 0 and below 86400. "
            f"Received: file_system_poll_wait_seconds={seconds}"
        )
    return seconds
