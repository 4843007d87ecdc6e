"""Clients of a served searcher: one that waits, one that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import numpy as np

from tfpqn.items import ItemSpec

from ..interface.search_result import SearchResult
from .conversation import Conversation, Result, Steps
from .grpc_transport import AsyncGrpcTransport, GrpcTransport
from .options import ClientOptions, TlsOptions
from .questions import Arrays, Signatures, VersionStatus
from .rest_transport import AsyncRestTransport, RestTransport
from .steps import walk, walk_async

MAX_MESSAGE_BYTES = 64 * 2**20


class _Client:
    """What both clients have: checked options, and a conversation without wires."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float = 10.0,
        max_attempts: int = 5,
        token: str | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        tls: bool | TlsOptions = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        rest: bool = False,
        chunk_size: int = 64,
        keepalive_seconds: float = 300.0,
        allow_insecure_token: bool = False,
    ) -> None:
        self._options = ClientOptions(
            address=address,
            model=model,
            version=version,
            version_label=version_label,
            timeout=timeout,
            max_attempts=max_attempts,
            token=token,
            metadata=tuple(metadata),
            tls=tls,
            max_message_bytes=max_message_bytes,
            rest=rest,
            chunk_size=chunk_size,
            keepalive_seconds=keepalive_seconds,
            allow_insecure_token=allow_insecure_token,
        )
        self._conversation = Conversation(self._options)
        self._is_open = True
        self._connect()

    def _connect(self) -> None:
        """Make the transport; nothing is sent yet."""
        raise NotImplementedError

    def _require_open(self) -> None:
        if not self._is_open:
            raise RuntimeError(
                "The client is closed. Expected calls before `close`. Received: after"
            )


class SearchClient(_Client):
    """Searches a model that TensorFlow Serving, or `tfpqn serve`, serves.

    A call is checked against the model's signatures, which are learnt at the first one; what does
    not fit is refused before it is sent. Many items are sent in parts, one after the other, and
    the answers joined: if the server changes to another version meanwhile, rows may come from
    both. A call is tried again while the server is UNAVAILABLE, and only then, after pauses that
    grow. May be used by several threads. Close it after use, or use it as a context manager.

    Args:
        address: "HOST:PORT" or "unix:PATH"; over REST "HOST:PORT" or a URL.
        model: The model's name on the server.
        version: Number of the version to ask; the server's choice, the latest, if None.
        version_label: Label of the version to ask, in place of its number.
        timeout: Seconds for a whole call: all attempts and pauses, all parts.
        max_attempts: How often each request is sent at most.
        token: Sent with each request as `authorization: Bearer TOKEN`.
        metadata: Further names (lower case) and values that are sent with each request.
        tls: True to trust the system's authorities, or `TlsOptions`.
        max_message_bytes: Largest request and answer. Parts are kept below half of it.
        rest: Whether to speak REST rather than gRPC.
        chunk_size: Most items in one request; no more than the server takes.
        keepalive_seconds: How long a connection of gRPC may be silent during a call before it is
            tested. Stock servers break off clients that test oftener than every five minutes.
        allow_insecure_token: Whether a token may leave this machine unencrypted.

    Raises:
        ValueError: An argument is not as described.

    All calls raise ServingError if the server refuses or cannot be asked, ValueError or TypeError
    if the arguments do not fit the model.

    Example:

    >>> with SearchClient("localhost:8500", "birds") as client:
    ...     ids, scores = client.search([open("bird.jpg", "rb").read()])  # [1, top_k] each
    """

    def _connect(self) -> None:
        make = RestTransport if self._options.rest else GrpcTransport
        self._transport: RestTransport | GrpcTransport = make(self._options)
        self._sleep = time.sleep

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
        return self._run(self._conversation.search(items, k, exclude_ids, allow_tags, deny_tags))

    def search_by_embedding(self, embeddings: Any) -> SearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not."""
        return self._run(self._conversation.search_by_embedding(embeddings))

    def search_by_id(self, item_ids: Sequence[Any]) -> SearchResult:
        """Search for what is like items of the collection, themselves left out."""
        return self._run(self._conversation.search_by_id(item_ids))

    def embed(self, items: Sequence[Any]) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` of images or clips."""
        return self._run(self._conversation.embed(items))

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Codes int32 `[batch, code_length]` of images or clips."""
        return self._run(self._conversation.encode(items))

    def decode(self, codes: Any) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` that the codes stand for."""
        return self._run(self._conversation.decode(codes))

    def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run any signature, in one request; strings come as object arrays of bytes."""
        return self._run(self._conversation.predict(signature_name, inputs))

    def signatures(self) -> Signatures:
        """Names, dtypes and shapes of the model's inputs and outputs by signature, asked anew."""
        return self._run(self._conversation.signatures())

    def items(self) -> ItemSpec:
        """What the model searches with."""
        return self._run(self._conversation.items())

    def model_status(self) -> list[VersionStatus]:
        """The versions that the server knows and their states."""
        return self._run(self._conversation.model_status())

    def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        if self._is_open:
            self._is_open = False
            self._transport.close()

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, steps: Steps[Result]) -> Result:
        self._require_open()
        return walk(steps, self._transport.send, self._sleep)


class AsyncSearchClient(_Client):
    """`SearchClient` for asyncio: the same arguments and methods, which are awaited.

    Many calls may be under way at once. All belong to one event loop, that of the first call.

    Example:

    >>> async with AsyncSearchClient("localhost:8500", "birds") as client:
    ...     ids, scores = await client.search([image])
    """

    def _connect(self) -> None:
        make = AsyncRestTransport if self._options.rest else AsyncGrpcTransport
        self._transport: AsyncRestTransport | AsyncGrpcTransport = make(self._options)
        self._sleep = asyncio.sleep

    async def search(
        self,
        items: Sequence[Any],
        *,
        k: int | None = None,
        exclude_ids: Any = None,
        allow_tags: Any = None,
        deny_tags: Any = None,
    ) -> SearchResult:
        """See `SearchClient.search`."""
        steps = self._conversation.search(items, k, exclude_ids, allow_tags, deny_tags)
        return await self._run(steps)

    async def search_by_embedding(self, embeddings: Any) -> SearchResult:
        """See `SearchClient.search_by_embedding`."""
        return await self._run(self._conversation.search_by_embedding(embeddings))

    async def search_by_id(self, item_ids: Sequence[Any]) -> SearchResult:
        """See `SearchClient.search_by_id`."""
        return await self._run(self._conversation.search_by_id(item_ids))

    async def embed(self, items: Sequence[Any]) -> np.ndarray:
        """See `SearchClient.embed`."""
        return await self._run(self._conversation.embed(items))

    async def encode(self, items: Sequence[Any]) -> np.ndarray:
        """See `SearchClient.encode`."""
        return await self._run(self._conversation.encode(items))

    async def decode(self, codes: Any) -> np.ndarray:
        """See `SearchClient.decode`."""
        return await self._run(self._conversation.decode(codes))

    async def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """See `SearchClient.predict`."""
        return await self._run(self._conversation.predict(signature_name, inputs))

    async def signatures(self) -> Signatures:
        """See `SearchClient.signatures`."""
        return await self._run(self._conversation.signatures())

    async def items(self) -> ItemSpec:
        """See `SearchClient.items`."""
        return await self._run(self._conversation.items())

    async def model_status(self) -> list[VersionStatus]:
        """See `SearchClient.model_status`."""
        return await self._run(self._conversation.model_status())

    async def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        if self._is_open:
            self._is_open = False
            await self._transport.close()

    async def __aenter__(self) -> AsyncSearchClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _run(self, steps: Steps[Result]) -> Coroutine[Any, Any, Result]:
        self._require_open()
        return walk_async(steps, self._transport.send, self._sleep)
