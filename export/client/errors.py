"""What can go wrong between client and server, under the status names of gRPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from tfpqn._text import plain_sentence

UNAVAILABLE = "UNAVAILABLE"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
INTERNAL = "INTERNAL"

# How TensorFlow Serving writes a status as HTTP, read backwards.
_CODE_OF_HTTP_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: DEADLINE_EXCEEDED,
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    499: "CANCELLED",
    500: INTERNAL,
    501: "UNIMPLEMENTED",
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}


class ServingError(RuntimeError):
    """A server refused a request, or could not be asked.

    Attributes:
        code: Name of the gRPC status, over REST too, such as "INVALID_ARGUMENT" (the request is
            wrong), "UNAVAILABLE" (no server answers, or not yet) or "DEADLINE_EXCEEDED".
        message: One sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


def read_refusal(code: str, details: str, address: str) -> ServingError:
    """The error for a status and what the server, or the way to it, says of it."""
    details = plain_sentence(details)
    if code == UNAVAILABLE:
        return ServingError(
            code,
            f"{address} cannot be reached or is not ready; check the address and that a server "
            f"runs there, `tfpqn serve` for one. Received: {details or 'no reason'}",
        )
    if code == DEADLINE_EXCEEDED:
        return ServingError(
            code,
            f"{address} did not answer in time; allow a longer timeout. "
            f"Received: {details or 'nothing'}",
        )
    return ServingError(code, details or f"{address} gives no reason")


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
    except (
        AttributeError, DecodeError, KeyError, OverflowError, ParseError, RecursionError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
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
