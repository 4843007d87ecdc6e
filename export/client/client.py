"""The client that waits for each answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from .async_client import AsyncSearchClient

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _BlockingClient(AsyncSearchClient):
    """Its transport blocks, so that no await ever waits."""

    _is_async = False


def _blocking(
    method: Callable[Concatenate[AsyncSearchClient, Arguments], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SearchClient, Arguments], Result]:
    """A method with the arguments and the docstring of one that is awaited."""

    @functools.wraps(method)
    def call(self: SearchClient, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            # As nothing waits, there is no need for an event loop.
            method(self._client, *args, **kwargs).send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("A call that blocks must not wait. Received: one that does")

    return call


class SearchClient:
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

    search = _blocking(AsyncSearchClient.search)
    search_by_embedding = _blocking(AsyncSearchClient.search_by_embedding)
    search_by_id = _blocking(AsyncSearchClient.search_by_id)
    embed = _blocking(AsyncSearchClient.embed)
    encode = _blocking(AsyncSearchClient.encode)
    decode = _blocking(AsyncSearchClient.decode)
    predict = _blocking(AsyncSearchClient.predict)
    signatures = _blocking(AsyncSearchClient.signatures)
    items = _blocking(AsyncSearchClient.items)
    model_status = _blocking(AsyncSearchClient.model_status)
    close = _blocking(AsyncSearchClient.close)

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
