"""Refusals with the status codes that TensorFlow Serving gives them."""

from __future__ import annotations

from tfpqn._text import plain_sentence

from ..interface.errors import ServingError

# gRPC sends the sentence as a header, and clients refuse headers of more than 8 KiB.
_MAX_CHARACTERS = 1000


def refusal(code: str, message: str) -> ServingError:
    """A refusal whose sentence is of bounded length and without TensorFlow's marks."""
    return ServingError(code, plain_sentence(message)[:_MAX_CHARACTERS])


def bad_request(message: str) -> ServingError:
    """The refusal of a request that is wrong in itself."""
    return refusal("INVALID_ARGUMENT", message)
