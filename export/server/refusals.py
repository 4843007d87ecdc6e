"""Refusals with the status codes that TensorFlow Serving gives them."""

from __future__ import annotations

from tfpqn._text import plain_sentence

from ..interface.errors import ServingError

# gRPC sends the sentence as a header, in which a byte may take three, and clients refuse headers of
# more than 8 KiB.
_MAX_BYTES = 2000


def refusal(code: str, message: str) -> ServingError:
    """A refusal whose sentence is of bounded length and without TensorFlow's marks."""
    sentence = plain_sentence(message).encode("utf-8", "replace")[:_MAX_BYTES]
    return ServingError(code, sentence.decode("utf-8", "ignore"))


def bad_request(message: str) -> ServingError:
    """The refusal of a request that is wrong in itself."""
    return refusal("INVALID_ARGUMENT", message)
