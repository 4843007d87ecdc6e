"""`tfpqn serve`: a local server for an exported model."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfpqn.cli.shared import DeltaAddress, console

if TYPE_CHECKING:
    from tfpqn.export.interface.batching_parameters import BatchingParameters
    from tfpqn.export.server import ModelServer, ShardRouter

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Host = Annotated[
    str, typer.Option(help="Address to listen on; others than loopback are open to all.")
]
Port = Annotated[int, typer.Option(help="Port of gRPC; 0 for any free one.")]
RestPort = Annotated[int, typer.Option(help="Port of REST; 0 for any free one, -1 for no REST.")]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(help="Another name that REST may be asked by; may be repeated."),
]


def serve(
    model_base_path: Annotated[Path, typer.Option(help="The model's folder: models/NAME.")],
    model_name: Annotated[
        str | None, typer.Option(help="Name of the model: the folder's name.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8500,
    rest_api_port: RestPort = 8501,
    enable_batching: Annotated[
        bool, typer.Option("--enable-batching", help="Merge requests that arrive together.")
    ] = False,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="How to merge them, such as VERSION/batching_params.pbtxt.")
    ] = None,
    file_system_poll_wait_seconds: Annotated[
        float, typer.Option(help="Seconds between two looks for a new version.")
    ] = 1.0,
    version_label: Annotated[
        list[str] | None, typer.Option(help="LABEL=NUMBER, a name for a version; may be repeated.")
    ] = None,
    max_message_bytes: Annotated[
        int, typer.Option(help="Largest request and answer, in bytes.")
    ] = 64 * 2**20,
    allowed_host: AllowedHosts = None,
    ui: Annotated[
        bool, typer.Option("--ui", help="Show the search page at the port of REST.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the items' images: the page's thumbnails.")
    ] = None,
) -> None:
    from tfpqn.export.server import ModelServer

    _show_log()
    server = ModelServer(
        model_base_path,
        model_name=model_name,
        host=host,
        port=port,
        rest_api_port=None if rest_api_port == -1 else rest_api_port,
        batching=_read_batching(enable_batching, batching_parameters_file),
        file_system_poll_wait_seconds=file_system_poll_wait_seconds,
        version_labels=dict(_read_label(text) for text in version_label or []),
        max_message_bytes=max_message_bytes,
        allowed_hosts=allowed_host or (),
        ui=ui,
        images=images,
    )
    asyncio.run(_serve(server, host, has_page=ui))


def route(
    address: Annotated[
        list[str],
        typer.Option(help="HOST:PORT of each shard, in order; of several servers A:1,B:1."),
    ],
    model: Annotated[str, typer.Option(help="The model's name on the servers, and here.")],
    delta: DeltaAddress = None,
    host: Host = "127.0.0.1",
    port: Port = 8500,
    rest_api_port: RestPort = 8501,
    hedge_after: Annotated[
        float | None, typer.Option(help="Seconds after which another server of a shard is asked.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each request.")] = 10.0,
    allowed_host: AllowedHosts = None,
) -> None:
    from tfpqn.export.client import ServingError
    from tfpqn.export.server import ShardRouter

    _show_log()
    router = ShardRouter(
        [each.split(",") for each in address],
        model,
        delta=delta.split(",") if delta else None,
        host=host,
        port=port,
        rest_api_port=None if rest_api_port == -1 else rest_api_port,
        hedge_after=hedge_after,
        timeout=timeout,
        allowed_hosts=allowed_host or (),
    )
    try:
        asyncio.run(_serve(router, host))
    except ServingError as error:
        raise ValueError(error.message) from error


def _show_log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("tfpqn").setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


async def _serve(server: ModelServer | ShardRouter, host: str, has_page: bool = False) -> None:
    """Serve until a signal comes; one that comes while the model loads stops as well."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await starting
    if not stop.is_set():
        rest = "" if server.rest_port is None else f", REST on {host}:{server.rest_port}"
        versions = ", ".join(map(str, server.available_versions)) or "none yet"
        console.print(
            f"Serving {server.model_name} (version {versions}): gRPC on {host}:{server.port}{rest}"
        )
        if has_page:
            name = f"[{host}]" if ":" in host else host
            console.print(f"Search page: http://{name}:{server.rest_port}/")
        await stopping
    stopping.cancel()
    await server.stop()


def _read_batching(is_enabled: bool, path: Path | None) -> BatchingParameters | None:
    from tfpqn.export.interface.batching_parameters import BatchingParameters

    if path is None:
        return BatchingParameters() if is_enabled else None
    if not is_enabled:
        raise ValueError(
            "--batching-parameters-file must come with --enable-batching. "
            f"Received: {str(path)!r} alone"
        )
    return BatchingParameters.read(path)


def _read_label(text: str) -> tuple[str, int]:
    label, _, number = text.rpartition("=")
    if not (label and number.isascii() and number.isdigit()):
        raise ValueError(f"--version-label must be LABEL=NUMBER. Received: {text!r}")
    return label, int(number)
