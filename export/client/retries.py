"""How long a call may take, and when it is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import DEADLINE_EXCEEDED, ServingError

Clock = Callable[[], float]


class Deadline:
    """The end of a call, all attempts and pauses included.

    Args:
        timeout: Seconds from now.
        clock: Seconds that never go back.
    """

    def __init__(self, timeout: float, clock: Clock = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._end = clock() + timeout

    def remaining(self) -> float:
        """Seconds left, negative afterwards."""
        return self._end - self._clock()

    def require(self) -> float:
        """Seconds left; ServingError when there are none."""
        remaining = self.remaining()
        if remaining <= 0:
            raise ServingError(
                DEADLINE_EXCEEDED,
                f"the call did not end within its timeout of {self._timeout:g} seconds",
            )
        return remaining


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts: drawn below a bound that doubles ("full jitter").

    Clients that failed together do not come back together.

    Attributes:
        first: Bound of the first pause, in seconds.
        longest: Bound that is not exceeded.
        draw: Numbers in [0, 1).
    """

    first: float = 0.2
    longest: float = 5.0
    draw: Callable[[], float] = random.random

    def pause_after(self, attempt: int) -> float:
        """Seconds to wait after the attempt of this number, counted from 1."""
        return self.draw() * min(self.longest, self.first * 2 ** min(attempt - 1, 60))
