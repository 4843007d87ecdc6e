"""The one error of the server: a status code that TensorFlow Serving documents, and a sentence."""

from __future__ import annotations

from tfpqn.datasets import plain_sentence

from ..loading.loaders import StatusError

__all__ = ["HTTP_STATUS_OF", "ServingError", "as_serving_error"]

# The mapping of TensorFlow Serving's `http_server.cc`.
HTTP_STATUS_OF = {
    "OK": 200,
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
MAX_MESSAGE_CHARACTERS = 1000


class ServingError(Exception):
    """A request that is refused, or a version that cannot be served.

    Attributes:
        code: Name of the status code, such as "INVALID_ARGUMENT".
        message: The sentence for the client, of bounded length.
        http_status: The HTTP status that goes with the code, unless another is given.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None) -> None:
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARACTERS]
        self.http_status = http_status or HTTP_STATUS_OF.get(code, 500)
        super().__init__(f"{code}: {self.message}")


def as_serving_error(error: BaseException) -> ServingError | None:
    """The same refusal in the server's form; None for an error that no request should cause.

    It is a new one: the traceback of the old one would keep the request in memory.
    """
    if isinstance(error, ServingError):
        return ServingError(error.code, error.message, error.http_status)
    if isinstance(error, StatusError):
        return ServingError(error.code, plain_sentence(error.message))
    return None
