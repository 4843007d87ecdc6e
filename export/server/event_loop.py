"""The event loop that servers run in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["run"]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, in uvloop where there is one.

    uvloop is written in C, so a request costs less of the cores that search too.
    """
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(main)
    else:
        uvloop.run(main)
