"""What goes wrong between client and server, as a ServingError."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from tfpqn._text import plain_sentence

from ..interface.errors import HTTP_STATUS_OF, ServingError

UNAVAILABLE = "UNAVAILABLE"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
INTERNAL = "INTERNAL"
NOT_FOUND = "NOT_FOUND"
FAILED_PRECONDITION = "FAILED_PRECONDITION"

# What to do, by code, where the address is the matter.
_ADVICE = {
    NOT_FOUND: "{} has no such model or version; check their names",
    UNAVAILABLE: "{} cannot be reached or is not ready; check the address and that a server runs "
    "there, `tfpqn serve` for one",
    DEADLINE_EXCEEDED: "{} did not answer in time; it may still load the model: wait, or allow a "
    "longer timeout",
}
# After the statuses of TensorFlow Serving those of proxies.
_CODE_OF_HTTP_STATUS = {
    **{status: code for code, status in reversed(HTTP_STATUS_OF.items())},
    405: "UNIMPLEMENTED",
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
}


def read_refusal(code: str, details: str, address: str) -> ServingError:
    """The error for a status and what the server, or the way to it, says of it."""
    details = plain_sentence(details) or "no reason"
    if code in _ADVICE:
        details = f"{_ADVICE[code].format(address)}. Received: {details}"
    return ServingError(code, details)


def code_of_http_status(status: int) -> str:
    """Name of the gRPC status that TensorFlow Serving writes as this HTTP status."""
    return _CODE_OF_HTTP_STATUS.get(
        status, "INVALID_ARGUMENT" if 400 <= status < 500 else "UNKNOWN"
    )


@contextlib.contextmanager
def reading_answer() -> Iterator[None]:
    """Raises ServingError if what came cannot be read as an answer."""
    try:
        yield
    # Parsers raise nearly every type.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ServingError(INTERNAL, f"the answer cannot be read: {reason}") from error


class Deadline:
    """The end of a call in so many seconds, all attempts and pauses included."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def remaining(self) -> float:
        """Seconds left; ServingError when there are none."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise ServingError(
                DEADLINE_EXCEEDED,
                f"the call did not end within its timeout of {self._timeout:g} seconds",
            )
        return remaining
