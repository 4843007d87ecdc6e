"""The client that waits for each answer."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tfpqn.items import ItemSpec

from ..interface.search_result import SearchResult
from ..interface.signatures import Arrays, Signature
from ..interface.version_status import VersionStatus
from .async_client import AsyncSearchClient

Result = TypeVar("Result")


class _BlockingClient(AsyncSearchClient):
    """Its transport blocks, so that no await ever waits."""

    _is_async = False


def _finish(call: Coroutine[Any, Any, Result]) -> Result:
    """Run a call of a `_BlockingClient`, which needs no event loop."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("A call that blocks must not wait. Received: one that does")


class SearchClient:
    """Searches a model that TensorFlow Serving, or `tfpqn serve`, serves.

    A call is checked against the model's signatures, which are learnt at the first one; what does
    not fit is refused before it is sent. Many items are sent in parts, one after the other, and
    the answers joined: if the server changes to another version meanwhile, rows may come from
    both. A request is sent again while the server is UNAVAILABLE, and only then, after random
    pauses that grow. May be used by several threads. Close it after use, or use it as a context
    manager.

    Args:
        address: "HOST:PORT" or "unix:PATH"; over REST "HOST:PORT" or a URL.
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

    def search(
        self,
        items: Sequence[Any],
        *,
        k: int | None = None,
        exclude_ids: Any = None,
        allow_tags: Any = None,
        deny_tags: Any = None,
    ) -> SearchResult:
        """Search with encoded images or, if the model takes clips, lists of encoded frames.

        Args:
            items: Bytes of an image file each; of clips a sequence of such bytes each.
            k: How many items to return; the model's own number if None.
            exclude_ids: Ids to leave out: a list for all items, or a list of lists, one each.
            allow_tags: Tags "COLUMN=VALUE" of which a found item has at least one, lists likewise.
            deny_tags: Tags of which a found item has none.

        Raises:
            ValueError: Arguments that no signature takes together: `k`, `exclude_ids`, and tags
                exclude each other.
        """
        return _finish(
            self._client.search(
                items, k=k, exclude_ids=exclude_ids, allow_tags=allow_tags, deny_tags=deny_tags
            )
        )

    def search_by_embedding(self, embeddings: Any) -> SearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not."""
        return _finish(self._client.search_by_embedding(embeddings))

    def search_by_id(self, item_ids: Sequence[Any]) -> SearchResult:
        """Search for what is like items of the collection, themselves left out."""
        return _finish(self._client.search_by_id(item_ids))

    def embed(self, items: Sequence[Any]) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` of images or clips."""
        return _finish(self._client.embed(items))

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Codes int32 `[batch, code_length]` of images or clips."""
        return _finish(self._client.encode(items))

    def decode(self, codes: Any) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` that the codes stand for."""
        return _finish(self._client.decode(codes))

    def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run any signature, in one request; strings come as object arrays of bytes."""
        return _finish(self._client.predict(signature_name, inputs))

    def signatures(self) -> dict[str, Signature]:
        """Names, dtypes and shapes of the model's inputs and outputs by signature, asked anew."""
        return _finish(self._client.signatures())

    def items(self) -> ItemSpec:
        """What the model searches with."""
        return _finish(self._client.items())

    def model_status(self) -> list[VersionStatus]:
        """The versions that the server knows and their states."""
        return _finish(self._client.model_status())

    def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        _finish(self._client.close())

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
