"""What a server answers beside `/v1`: the page's files, its settings and thumbnails."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from .thumbnails import find_image, make_thumbnail

FOLDER = Path(__file__).parent
FILES = {
    "index.html": "text/html",
    "search.js": "text/javascript",
    "client.js": "text/javascript",
    "queries.js": "text/javascript",
    "results.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
# What `index.html` says too, for hosts that send no headers; frames can be refused here alone.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; form-action 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{CONTENT_POLICY}; frame-ancestors 'none'",
    # Another page may neither show what this one shows nor measure it.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
THUMBNAILS_AT_ONCE = 2


def page_routes(model_name: str, images: str | os.PathLike[str] | None) -> list[Route]:
    """The routes of the page for a model.

    Args:
        model_name: Name of the model under `/v1/models`.
        images: Folder with the images that the ids of the items name; None for no thumbnails.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"The folder of images must exist. Received: {os.fspath(images)!r}")
    settings = {"model": model_name, "thumbnails": None if images is None else "thumbnails/"}
    routes = [
        Route("/", partial(_send_file, "index.html")),
        *(Route(f"/{name}", partial(_send_file, name)) for name in FILES),
        Route("/settings.json", partial(_send_settings, settings)),
    ]
    if images is not None:
        routes.append(Route("/thumbnails/{item_id:path}", _Thumbnails(Path(images)).send))
    return routes


async def _send_file(name: str, request: Request) -> Response:
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return FileResponse(FOLDER / name, headers=headers, media_type=FILES[name])


async def _send_settings(settings: dict[str, str | None], request: Request) -> Response:
    return JSONResponse(settings, headers={**HEADERS, "Cache-Control": "no-store"})


class _Thumbnails:
    """Thumbnails of one folder, a few at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Semaphore(THUMBNAILS_AT_ONCE)

    async def send(self, request: Request) -> Response:
        """The thumbnail of an item; 404 without an image of it."""
        try:
            path = find_image(self._folder, request.path_params["item_id"])
            async with self._turn:
                data = await run_in_threadpool(make_thumbnail, path)
        except (LookupError, OSError, ValueError):
            return JSONResponse({"error": "there is no such image"}, 404, headers=HEADERS)
        headers = {**HEADERS, "Cache-Control": "private, max-age=300"}
        return Response(data, headers=headers, media_type="image/webp")
