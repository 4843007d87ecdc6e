"""Threads that read items side by side, and batches ahead of their use."""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def map_ahead(
    function: Callable[[Any], _Result],
    arguments: Iterable[Any],
    *,
    num_ahead: int,
    num_threads: int,
) -> Iterator[_Result]:
    """Results in order, of which threads make up to `num_ahead` before they are asked for."""
    remaining = iter(arguments)
    threads = ThreadPoolExecutor(num_threads)
    try:
        waiting = deque(
            threads.submit(function, argument)
            for argument in itertools.islice(remaining, num_ahead)
        )
        while waiting:
            yield waiting.popleft().result()
            for argument in itertools.islice(remaining, 1):
                waiting.append(threads.submit(function, argument))
    finally:
        threads.shutdown(cancel_futures=True)


@functools.cache
def item_threads() -> ThreadPoolExecutor:
    """The threads that decode files, one for each core."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="tfpqn-read")
