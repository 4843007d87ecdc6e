"""Refusals, under the status names of gRPC."""

from __future__ import annotations

# As in TensorFlow Serving's `http_server.cc`. Read backwards, the first name of a status counts.
HTTP_STATUS_OF = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
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
