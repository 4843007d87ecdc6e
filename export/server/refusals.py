"""The one error of the server: a status code that TensorFlow Serving documents, and a sentence."""

from __future__ import annotations

from tfpqn._text import plain_sentence

# The mapping of TensorFlow Serving's `http_server.cc`.
_HTTP_STATUS_OF = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}
# gRPC sends the sentence as a header, and clients refuse headers of more than 8 KiB.
_MAX_CHARACTERS = 1000


class ServingError(Exception):
    """A request that is refused, or a version that cannot be served.

    Attributes:
        code: Name of the status code, such as "INVALID_ARGUMENT".
        message: The sentence for the client, of bounded length, without TensorFlow's marks.
        http_status: The HTTP status that goes with the code, unless another is given.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None) -> None:
        self.code = code
        self.message = plain_sentence(message)[:_MAX_CHARACTERS]
        self.http_status = http_status or _HTTP_STATUS_OF.get(code, 500)
        super().__init__(f"{code}: {self.message}")


def bad_request(message: str) -> ServingError:
    """The refusal of a request that is wrong in itself."""
    return ServingError("INVALID_ARGUMENT", message)


def not_found(message: str) -> ServingError:
    """The refusal of a request for a model or version that is not there."""
    return ServingError("NOT_FOUND", message)
