"""The local server: gRPC and REST in one event loop, on the loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..interface.batching_parameters import BatchingParameters
from ..page import page_routes
from .grpc_service import Health, make_grpc_server
from .hosts import HostCheck, is_loopback
from .predictor import Predictor
from .rest import RestServer, make_app
from .versions import ModelVersions

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 2**20

Server = TypeVar("Server", bound="Endpoints")


class Endpoints:
    """One model's gRPC and REST, as TensorFlow Serving has them.

    Args:
        versions: The versions that can be asked for.
        predictor: What runs their signatures.
        host, port, rest_api_port, max_message_bytes, allowed_hosts, ui, images: As of
            `ModelServer`.

    Attributes:
        model_name: Name of the model.
        port: After `start` the port that gRPC is bound to.
        rest_port: After `start` the port that REST is bound to; None without REST.
    """

    def __init__(
        self,
        versions: ModelVersions,
        predictor: Predictor,
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        rest_api_port: int | None = 8501,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        allowed_hosts: Sequence[str] = (),
        ui: bool = False,
        images: str | os.PathLike[str] | None = None,
    ) -> None:
        _check("port", port, 0, 2**16 - 1)
        _check("rest_api_port", rest_api_port or 0, 0, 2**16 - 1)
        _check("max_message_bytes", max_message_bytes, 1024, 2**31 - 1)
        self.model_name = versions.name
        self._host = host
        self._wanted_ports = port, rest_api_port
        self.port: int | None = None
        self.rest_port: int | None = None
        self._hosts = HostCheck(host, allowed_hosts)
        _check_page(ui, images, host, rest_api_port)
        self._page = page_routes(versions.name, images) if ui else []
        self._max_message_bytes = max_message_bytes
        self._health = Health()
        self._versions, self._predictor = versions, predictor
        self._grpc: Any = None
        self._rest: RestServer | None = None

    @property
    def available_versions(self) -> list[int]:
        """Numbers of the versions that are served, ascending."""
        return self._versions.available

    async def start(self) -> None:
        """Bind the ports, find the newest version and answer requests.

        Raises:
            OSError: A port is in use.
        """
        if not is_loopback(self._host):
            logger.warning(
                "Listening on %s: whoever reaches it can search and read the collection", self._host
            )
        try:
            self._bind()
            await self._health.set_serving(False)
            await self._versions.start()
            if not self.available_versions:
                logger.warning("No version of model %r can be served yet", self.model_name)
            await self._grpc.start()
            if self._rest:
                await self._rest.start()
        except BaseException:
            await self.stop(0)
            raise

    def _bind(self) -> None:
        """Make both servers, and bind their ports."""
        self._grpc = make_grpc_server(
            self._predictor, self._versions, self._health, self._max_message_bytes
        )
        grpc_port, rest_port = self._wanted_ports
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self.port = int(self._grpc.add_insecure_port(f"{host}:{grpc_port}"))
        except RuntimeError as error:
            raise OSError(
                "The address for gRPC must be one of this machine, and free. "
                f"Received: {host}:{grpc_port} ({error})"
            ) from error
        if rest_port is not None:
            app = make_app(
                self._predictor, self._versions, self._hosts, self._max_message_bytes, self._page
            )
            self._rest = RestServer(app, self._host, rest_port)
            self.rest_port = self._rest.port

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Refuse new requests, give those in flight some time, unload and free the ports."""
        await self._health.set_serving(False)
        servers = [server for server in (self._grpc, self._rest) if server is not None]
        await asyncio.gather(*(server.stop(grace_seconds) for server in servers))
        await self._versions.stop()
        self._predictor.close()

    async def __aenter__(self) -> Endpoints:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()


class ModelServer(Endpoints):
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
        ui: Whether the port of REST shows the search page at `/`; only on the loopback address.
        images: Folder with the images that the items' ids name, for the page's thumbnails.

    Attributes:
        port: After `start` the port that gRPC is bound to.
        rest_port: After `start` the port that REST is bound to; None without REST.

    Raises:
        FileNotFoundError: There is no folder `images`.
        ValueError: An argument is out of range.

    Example::

        async with ModelServer("models/birds", port=0, rest_api_port=0) as server:
            print(server.port, server.rest_port)
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        *,
        model_name: str | None = None,
        batching: BatchingParameters | None = None,
        file_system_poll_wait_seconds: float = 1.0,
        version_labels: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        _check("file_system_poll_wait_seconds", file_system_poll_wait_seconds, 0.001, 86400)
        self._base_path = Path(model_base_path)
        versions = ModelVersions(
            model_name or self._base_path.resolve().name,
            self._base_path,
            labels=version_labels or {},
            poll_seconds=file_system_poll_wait_seconds,
            on_load=lambda: self._health.set_serving(True),
        )
        super().__init__(versions, Predictor(batching), **options)

    async def start(self) -> None:
        """Bind the ports, load the newest version and answer requests.

        Without a version that can be loaded the server starts as well, says so in its log, and
        answers NOT_FOUND until there is one.

        Raises:
            FileNotFoundError: There is no such folder.
            OSError: A port is in use.
            ValueError: The folder is that of a version.
        """
        self._require_folder()
        await super().start()

    def _require_folder(self) -> None:
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


@contextlib.contextmanager
def running_server(*arguments: Any, **options: Any) -> Iterator[ModelServer]:
    """Run a `ModelServer` in a thread of its own, for programs without an event loop.

    Takes what `ModelServer` takes; the block is entered when the server answers.
    """
    with running_endpoints(lambda: ModelServer(*arguments, **options)) as server:
        yield server


@contextlib.contextmanager
def running_endpoints(make: Callable[[], Server]) -> Iterator[Server]:
    """Run what `make` gives in a thread of its own."""
    server = make()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tfpqn-server")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be in {least} .. {most}. Received: {name}={value}")


def _check_page(ui: bool, images: Any, host: str, rest_api_port: int | None) -> None:
    if images is not None and not ui:
        raise ValueError(
            "images are for the search page: give ui as well (--ui). "
            f"Received: images={os.fspath(images)!r} alone"
        )
    if ui and (rest_api_port is None or not is_loopback(host)):
        raise ValueError(
            "The search page needs REST, on the loopback address. "
            f"Received: host={host!r}, rest_api_port={rest_api_port}"
        )
