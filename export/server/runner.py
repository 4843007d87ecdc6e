"""Threads that run requests, and keep a version loaded as long as they use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .model_version import ModelVersion

__all__ = ["Runner"]

Result = TypeVar("Result")


class Runner:
    """A pool of threads for blocking calls; TensorFlow frees the interpreter while it computes.

    Args:
        num_threads: Calls that run at the same time.
    """

    def __init__(self, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads, "tfpqn-run")

    def submit(self, version: ModelVersion, call: Callable[[], Result]) -> asyncio.Future[Result]:
        """Run a call in a thread; the version stays loaded until it is through.

        Cancelling the future drops a call that has not begun; one that has goes on unheard.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        version.acquire()

        def finish(result: Result | None, error: BaseException | None) -> None:
            version.release()
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                if not future.cancelled():
                    result = call()
            except BaseException as caught:
                error = caught
            loop.call_soon_threadsafe(finish, result, error)

        self._pool.submit(work)
        return future

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()
