"""Watches a model's folder and keeps the right versions loaded.

The newest version is served, and those that labels name. A new one is loaded and warmed up in a
thread while the old one serves; then it takes over in one step. The old one is unloaded when its
last request lets go of it. A version that cannot be loaded is refused until its folder changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from ..interface.version_status import VersionStatus
from ..model.version_folder import VERSION
from .model_version import ModelVersion
from .refusals import bad_request, refusal

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
# Versions without a folder whose end is still told: with deltas one comes every few seconds.
KEPT_STATUSES = 10
# Names, sizes and times of a folder's files: another one says that something changed.
Stamp: TypeAlias = "list[tuple[str, int, int]]"


class ModelSpec(NamedTuple):
    """What a request asks of: a model, and perhaps one version of it.

    Attributes:
        name: The model's name.
        number: Number of the version; None for the newest, unless a label is given.
        label: Label of the version; empty for none.
    """

    name: str
    number: int | None = None
    label: str = ""


class ModelVersions:
    """The versions of one model; see `ModelServer` for its arguments.

    `on_load` is awaited whenever a version has become available.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        *,
        labels: Mapping[str, int],
        poll_seconds: float,
        on_load: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self._base_path = base_path
        self._labels = dict(labels)
        self._poll_seconds = poll_seconds
        self._on_load = on_load
        self._statuses: dict[int, VersionStatus] = {}
        self._available: dict[int, ModelVersion] = {}
        self._refused: dict[int, Stamp] = {}
        self._watching: asyncio.Task[None] | None = None
        # One thread: two loads at a time would take memory and time from the requests.
        self._thread = ThreadPoolExecutor(1, "tfpqn-load")

    @property
    def available(self) -> list[int]:
        """Numbers of the versions that are served, ascending."""
        return sorted(self._available)

    async def start(self) -> None:
        """Load what is there, then keep watching."""
        await self.poll()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching and let go of everything."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._available.clear()
        self._thread.shutdown()

    def find(self, spec: ModelSpec) -> ModelVersion:
        """The available version that a request asks for, the newest by default."""
        number = self._read_number(spec)
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        if number is None:
            number = max(self._available, default=None)
        if spec.name != self.name or number not in self._available:
            raise refusal("NOT_FOUND", f"Servable not found for request: {wanted}")
        return self._available[number]

    def statuses(self, spec: ModelSpec) -> list[VersionStatus]:
        """Where the versions that a request asks for stand, newest first."""
        number = self._read_number(spec)
        known = self._statuses if spec.name == self.name else {}
        found = [known[one] for one in sorted(known, reverse=True) if number in (None, one)]
        if not found:
            wanted = "any versions" if number is None else f"version {number}"
            raise refusal("NOT_FOUND", f"Could not find {wanted} of model {spec.name}")
        return found

    def _read_number(self, spec: ModelSpec) -> int | None:
        if not spec.name:
            raise bad_request("Missing model name in request.")
        if spec.label and spec.label not in self._labels:
            raise bad_request(f"Unrecognized servable version label: {spec.label}")
        return self._labels[spec.label] if spec.label else spec.number

    async def poll(self) -> None:
        """Look at the folder once, and load and unload what that asks for."""
        folders = await self._in_thread(_find_versions, self._base_path)
        gone = self._statuses.keys() - folders.keys() - self._available.keys()
        for number in sorted(gone)[:-KEPT_STATUSES]:
            del self._statuses[number]
            self._refused.pop(number, None)
        for number in sorted(self._labels.values()):
            if number in folders:
                await self._load(number, folders[number])
        for number in sorted(folders, reverse=True):
            if await self._load(number, folders[number]):
                self._retire_others(number)
                return

    async def _watch(self) -> None:
        failure = ""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.poll()
                failure = ""
            except Exception as error:
                # What is loaded serves on. One failure is told once, not at every look.
                if failure != (failure := f"{type(error).__name__}: {error}"):
                    logger.error("The versions of model %r cannot be read (%s)", self.name, failure)

    async def _load(self, number: int, folder: Path) -> bool:
        """Make a version available; False if it is refused."""
        if number in self._available:
            return True
        stamp = await self._in_thread(_take_stamp, folder)
        if self._refused.get(number) == stamp:
            return False
        self._statuses[number] = VersionStatus(number, "LOADING")
        logger.info("Loading version %d of model %r", number, self.name)
        try:
            version = await self._in_thread(ModelVersion.load, number, folder)
        except Exception as error:
            self._refuse(number, stamp, error)
            return False
        self._refused.pop(number, None)
        self._available[number] = version
        self._statuses[number] = VersionStatus(number, "AVAILABLE")
        logger.info("Serving version %d of model %r", number, self.name)
        await self._on_load()
        return True

    def _refuse(self, number: int, stamp: Stamp, error: Exception) -> None:
        self._refused[number] = stamp
        message = bad_request(str(error) or type(error).__name__).message
        self._statuses[number] = VersionStatus(number, "END", "INVALID_ARGUMENT", message)
        logger.error("Version %d of model %r is refused: %s", number, self.name, message)

    def _retire_others(self, latest: int) -> None:
        for number in self._available.keys() - {latest, *self._labels.values()}:
            del self._available[number]
            self._statuses[number] = VersionStatus(number, "END")
            logger.info("Version %d of model %r is no longer served", number, self.name)

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)


def _find_versions(base_path: Path) -> dict[int, Path]:
    """Numbered sub-folders of a model's folder, by number; all else is ignored."""
    folders = [path for path in sorted(base_path.iterdir()) if VERSION.fullmatch(path.name)]
    return {int(path.name): path for path in folders if path.is_dir()}


def _take_stamp(folder: Path) -> Stamp:
    # The folder itself too, which may be a link.
    paths = [(path, path.lstat()) for path in (folder, *sorted(folder.rglob("*")))]
    return [(str(path), status.st_size, status.st_mtime_ns) for path, status in paths]
