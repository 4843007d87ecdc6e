"""The client that is awaited. It holds all that a client does; `SearchClient` waits for it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfpqn.items import ItemSpec, items_of_inputs

from ..interface.delta import DESCRIBE_DELTA
from ..interface.errors import ServingError
from ..interface.search_result import SearchResult
from ..interface.shard import DESCRIBE_SHARD
from ..interface.signatures import Arrays, Signature, numpy_dtype, read_inputs, to_array
from ..interface.version_status import VersionStatus
from .errors import UNAVAILABLE, Deadline
from .grpc_transport import GrpcTransport
from .inputs import choose_signature, pack_inputs, split_rows
from .options import ClientOptions
from .rest_transport import RestTransport

# JSON writes bytes a third longer, and the answer is not counted: half of what a message may hold.
_SHARE_OF_MESSAGE = 0.5
# What gives a model the signatures that not every one has.
_MADE_BY = {
    "search_k": ", which `tfpqn export` gives every model: export it again",
    "search_with_filters": ", which `tfpqn export --tags` gives it",
    "search_with_probes": ", which `tfpqn export --partition` gives it",
    DESCRIBE_SHARD: ", which `tfpqn export --shards` gives it",
    DESCRIBE_DELTA: ", which `tfpqn ingest` gives a delta",
    "search_by_embedding_with_exclusions": ", which `tfpqn export --shards` gives it",
    "search_with_filters_and_exclusions": ", which `tfpqn export --shards --tags` gives it",
}


class AsyncSearchClient:
    """`SearchClient` for asyncio: the same arguments and methods, which are awaited.

    Many calls may be under way at once. All belong to one event loop, that of the first call.

    Example::

        async with AsyncSearchClient("localhost:8500", "birds") as client:
            ids, scores = await client.search([image])
    """

    _is_async = True

    def __init__(self, address: str, model: str, **options: Any) -> None:
        self._options = ClientOptions(address, model, **options)
        make: type[RestTransport | GrpcTransport]
        make = RestTransport if self._options.rest else GrpcTransport
        self._transport = make(self._options, self._is_async)
        # Learnt at the first call, and again when something does not fit them: the server may have
        # gone on to another version.
        self._signatures: dict[str, Signature] | None = None
        self._is_open = self._has_own_connections = True

    async def search(
        self,
        items: Sequence[Any],
        *,
        k: int | None = None,
        exclude_ids: Any = None,
        allow_tags: Any = None,
        deny_tags: Any = None,
    ) -> SearchResult:
        """Search with what the model takes: images, clips or vectors.

        Args:
            items: Bytes of an image file each; of clips a sequence of such bytes each; of vectors
                float32 `[batch, dim]`.
            k: How many items to return; the model's own number if None.
            exclude_ids: Ids to leave out: a list for all items, or a list of lists, one each.
            allow_tags: Tags "COLUMN=VALUE" of which a found item has at least one, lists likewise.
            deny_tags: Tags of which a found item has none.

        Raises:
            ValueError: Arguments that no signature takes together: `k`, `exclude_ids`, and tags
                exclude each other.
        """
        options = {"exclude_ids": exclude_ids, "allow_tags": allow_tags, "deny_tags": deny_tags}
        options["k"] = k
        outputs = await self.predict_rows(choose_signature(options), items=items, **options)
        return SearchResult.from_outputs(outputs)

    async def search_by_embedding(self, embeddings: Any) -> SearchResult:
        """Search with the network's own embeddings `[batch, embedding_dim]`, as `embed` gives them.

        They need not be normalised. Vectors of another model go to `search`.
        """
        outputs = await self.predict_rows("search_by_embedding", embeddings=embeddings)
        return SearchResult.from_outputs(outputs)

    async def search_by_id(self, item_ids: Sequence[Any]) -> SearchResult:
        """Search for what is like items of the collection, themselves left out."""
        outputs = await self.predict_rows("search_by_id", item_ids=item_ids)
        return SearchResult.from_outputs(outputs)

    async def embed(self, items: Sequence[Any]) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` of images, clips or vectors."""
        return (await self.predict_rows("embed", items=items))["embeddings"]

    async def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Codes int32 `[batch, code_length]` of images, clips or vectors."""
        return (await self.predict_rows("encode", items=items))["codes"]

    async def decode(self, codes: Any) -> np.ndarray:
        """Embeddings float32 `[batch, embedding_dim]` that the codes stand for."""
        return (await self.predict_rows("decode", codes=codes))["embeddings"]

    async def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run any signature, in one request; strings come as object arrays of bytes."""
        deadline = Deadline(self._options.timeout)
        signature, arrays = await self._prepare(
            signature_name,
            lambda signature: read_inputs(signature_name, signature, inputs, to_array),
            deadline,
        )
        return await self._ask(deadline, self._transport.predict, signature_name, signature, arrays)

    async def signatures(self) -> dict[str, Signature]:
        """Names, dtypes and shapes of the model's inputs and outputs by signature, asked anew."""
        return dict(await self._learn(Deadline(self._options.timeout), afresh=True))

    async def items(self) -> ItemSpec:
        """What the model searches with."""
        signatures = await self._learn(Deadline(self._options.timeout))
        return items_of_inputs(_find_signature(signatures, "search").inputs)

    async def model_status(self) -> list[VersionStatus]:
        """The versions that the server knows and their states."""
        deadline = Deadline(self._options.timeout)
        return await self._ask(deadline, self._transport.model_status)

    def at_version(self, version: int) -> AsyncSearchClient:
        """A client of one version, over the connections of this one, which alone closes them."""
        client = copy.copy(self)
        client._options = dataclasses.replace(self._options, version=version)
        client._transport = self._transport.with_options(client._options)
        client._signatures, client._has_own_connections = None, False
        return client

    async def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        if self._is_open:
            self._is_open = False
            if self._has_own_connections:
                await self._transport.close()

    async def __aenter__(self) -> AsyncSearchClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def predict_rows(self, name: str, **values: Any) -> Arrays:
        """Run a signature in as many parts as it takes; `items` stands for the packed ones."""
        deadline = Deadline(self._options.timeout)
        signature, inputs = await self._prepare(
            name, lambda signature: pack_inputs(signature, values), deadline
        )
        max_bytes = int(self._options.max_message_bytes * _SHARE_OF_MESSAGE)
        parts = [
            await self._ask(deadline, self._transport.predict, name, signature, part)
            for part in split_rows(inputs, self._options.chunk_size, max_bytes)
        ]
        return _join(parts) if parts else _answer_to_nothing(signature, inputs)

    async def _prepare(
        self, name: str, pack: Callable[[Signature], Arrays], deadline: Deadline
    ) -> tuple[Signature, Arrays]:
        """The signature of this name, and inputs that fit it."""
        was_known = self._signatures is not None
        try:
            signature = _find_signature(await self._learn(deadline), name)
            return signature, pack(signature)
        except (TypeError, ValueError):
            if not was_known:
                raise
        signature = _find_signature(await self._learn(deadline, afresh=True), name)
        return signature, pack(signature)

    async def _learn(self, deadline: Deadline, afresh: bool = False) -> dict[str, Signature]:
        if afresh or self._signatures is None:
            self._signatures = await self._ask(deadline, self._transport.signatures)
        return self._signatures

    async def _ask(self, deadline: Deadline, ask: Callable[..., Any], *arguments: Any) -> Any:
        if not self._is_open:
            raise RuntimeError(
                "The client is closed. Expected calls before `close`. Received: after"
            )
        try:
            return await ask(*arguments, deadline)
        except ServingError as error:
            if error.code != UNAVAILABLE:
                # Perhaps the server has gone on to a version with other signatures.
                self._signatures = None
            raise


def _find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    if name not in signatures:
        raise ValueError(
            f"The served model must have the signature {name!r}{_MADE_BY.get(name, '')}. "
            f"Received: a model with {sorted(signatures)}"
        )
    return signatures[name]


def _join(parts: list[Arrays]) -> Arrays:
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise ServingError(
            "ABORTED", f"the model changed while it was asked; ask again. Received: {error}"
        ) from error


def _answer_to_nothing(signature: Signature, inputs: Arrays) -> Arrays:
    """No rows, of the form that rows would have; no server need be asked."""
    k = int(inputs.get("k", 0))
    answer = {}
    for name, info in signature.outputs.items():
        row = [size or k for size in (info.shape or ())[1:]]
        answer[name] = np.empty([0, *row], numpy_dtype(info.dtype))
    return answer
