"""The client that waits for each answer."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from .async_client import AsyncSearchClient
from .blocking import BlockingCalls, Result, blocking


class _BlockingClient(AsyncSearchClient):
    """Its transport blocks, so that no await ever waits."""

    _is_async = False


class SearchClient(BlockingCalls):
    """Searches a model that TensorFlow Serving, or `tfpqn serve`, serves.

    A call is checked against the model's signatures, which are learnt at the first one; what does
    not fit is refused before it is sent. Many items are sent in parts, one after the other, and
    the answers joined: if the server changes to another version meanwhile, rows may come from
    both. A request is sent again while the server is UNAVAILABLE, and only then, after random
    pauses that grow. May be used by several threads. Close it after use, or use it as a context
    manager.

    Args:
        address: "HOST:PORT"; over REST also a URL.
        model: The model's name on the server.
        version: Number of the version to ask; the server's choice, the latest, if None.
        version_label: Label of the version to ask, in place of its number.
        timeout: Seconds for a whole call: all attempts and pauses, all parts.
        max_attempts: How often each request is sent at most, 1 to 5.
        token: Sent with each request as `authorization: Bearer TOKEN`; to other machines with TLS
            alone.
        metadata: Further names (lower case) and values that are sent with each request.
        tls: True to trust the system's authorities, or a PEM file of those to trust.
        max_message_bytes: Largest request and answer. Parts are kept below half of it.
        rest: Whether to speak REST rather than gRPC.
        chunk_size: Most items in one request; no more than the server takes.

    Raises:
        ValueError: An argument is not as described.

    All calls raise ServingError if the server refuses or cannot be asked, ValueError or TypeError
    if the arguments do not fit the model.

    Example::

        with SearchClient("localhost:8500", "birds") as client:
            ids, scores = client.search([open("bird.jpg", "rb").read()])  # [1, top_k] each
    """

    def __init__(self, address: str, model: str, **options: Any) -> None:
        self._client = _BlockingClient(address, model, **options)

    search = blocking(AsyncSearchClient.search)
    search_by_embedding = blocking(AsyncSearchClient.search_by_embedding)
    search_by_id = blocking(AsyncSearchClient.search_by_id)
    embed = blocking(AsyncSearchClient.embed)
    encode = blocking(AsyncSearchClient.encode)
    decode = blocking(AsyncSearchClient.decode)
    predict = blocking(AsyncSearchClient.predict)
    signatures = blocking(AsyncSearchClient.signatures)
    items = blocking(AsyncSearchClient.items)
    model_status = blocking(AsyncSearchClient.model_status)
    close = blocking(AsyncSearchClient.close)

    def _wait_for(self, call: Coroutine[Any, Any, Result]) -> Result:
        try:
            # As nothing waits, there is no need for an event loop.
            call.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("A call that blocks must not wait. Received: one that does")
