"""The client that is awaited. It holds all that a client does; `SearchClient` waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tfpqn.items import ItemSpec, items_of_inputs

from ..interface.packing import pack_ids
from ..interface.search_result import SearchResult
from ..interface.signatures import Arrays, Signature, TensorInfo, numpy_dtype, prepare_inputs
from ..interface.version_status import VersionStatus
from .errors import INTERNAL, UNAVAILABLE, Deadline, ServingError
from .grpc_transport import GrpcTransport
from .inputs import (
    choose_signature,
    pack_codes,
    pack_embeddings,
    pack_queries,
    pack_search,
    split_rows,
)
from .options import ClientOptions
from .rest_transport import RestTransport

PackInputs: TypeAlias = Callable[[Signature], Arrays]

_SEARCH = ("search", "serving_default")
# JSON writes bytes a third longer, and the answer is not counted: half of what a message may hold.
_SHARE_OF_MESSAGE = 0.5
# What gives a model the signatures that not every one has.
_MADE_BY = {
    "search_with_filters": ", which `tfpqn export --tags` gives it",
    "search_with_probes": ", which `tfpqn export --partition` gives it",
}


class _Request(NamedTuple):
    """A signature, and inputs that fit it."""

    name: str
    signature: Signature
    inputs: Arrays


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
        self._is_open = True

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
        name = choose_signature(k, exclude_ids, allow_tags, deny_tags)
        outputs = await self._predict_rows(
            _SEARCH if name == "search" else (name,),
            lambda signature: pack_search(signature, items, k, exclude_ids, allow_tags, deny_tags),
        )
        return _to_result(outputs)

    async def search_by_embedding(self, embeddings: Any) -> SearchResult:
        """See `SearchClient.search_by_embedding`."""
        outputs = await self._predict_rows(
            ("search_by_embedding",),
            lambda signature: {
                "embeddings": pack_embeddings(embeddings, signature.inputs["embeddings"])
            },
        )
        return _to_result(outputs)

    async def search_by_id(self, item_ids: Sequence[Any]) -> SearchResult:
        """See `SearchClient.search_by_id`."""
        outputs = await self._predict_rows(
            ("search_by_id",),
            lambda signature: {
                "item_ids": pack_ids("item_ids", item_ids, signature.inputs["item_ids"].dtype)
            },
        )
        return _to_result(outputs)

    async def embed(self, items: Sequence[Any]) -> np.ndarray:
        """See `SearchClient.embed`."""
        outputs = await self._predict_rows(("embed",), lambda s: pack_queries(items, s))
        return _take_output(outputs, "embeddings")

    async def encode(self, items: Sequence[Any]) -> np.ndarray:
        """See `SearchClient.encode`."""
        outputs = await self._predict_rows(("encode",), lambda s: pack_queries(items, s))
        return _take_output(outputs, "codes")

    async def decode(self, codes: Any) -> np.ndarray:
        """See `SearchClient.decode`."""
        outputs = await self._predict_rows(
            ("decode",), lambda s: {"codes": pack_codes(codes, s.inputs["codes"])}
        )
        return _take_output(outputs, "embeddings")

    async def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Arrays:
        """See `SearchClient.predict`."""
        deadline = Deadline(self._options.timeout)
        request = await self._prepare(
            (signature_name,),
            lambda signature: prepare_inputs({signature_name: signature}, signature_name, inputs),
            deadline,
        )
        return await self._ask(deadline, self._transport.predict, *request)

    async def signatures(self) -> dict[str, Signature]:
        """See `SearchClient.signatures`."""
        return dict(await self._learn(Deadline(self._options.timeout), afresh=True))

    async def items(self) -> ItemSpec:
        """See `SearchClient.items`."""
        signatures = await self._learn(Deadline(self._options.timeout))
        return items_of_inputs(signatures[_find_signature(signatures, _SEARCH)].inputs)

    async def model_status(self) -> list[VersionStatus]:
        """See `SearchClient.model_status`."""
        deadline = Deadline(self._options.timeout)
        return await self._ask(deadline, self._transport.model_status)

    async def close(self) -> None:
        """Close the connections. Closing twice does no harm."""
        if self._is_open:
            self._is_open = False
            await self._transport.close()

    async def __aenter__(self) -> AsyncSearchClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _predict_rows(self, names: Sequence[str], pack: PackInputs) -> Arrays:
        """Run the first of these signatures that the model has, in as many parts as it takes."""
        deadline = Deadline(self._options.timeout)
        request = await self._prepare(names, pack, deadline)
        max_bytes = int(self._options.max_message_bytes * _SHARE_OF_MESSAGE)
        parts = []
        for inputs in split_rows(request.inputs, self._options.chunk_size, max_bytes):
            part = request._replace(inputs=inputs)
            parts.append(await self._ask(deadline, self._transport.predict, *part))
        return _join(parts) if parts else _answer_to_nothing(request)

    async def _prepare(
        self, names: Sequence[str], pack: PackInputs, deadline: Deadline
    ) -> _Request:
        was_known = self._signatures is not None
        signatures = await self._learn(deadline)
        try:
            return _make_request(signatures, names, pack)
        except (TypeError, ValueError):
            if not was_known:
                raise
        return _make_request(await self._learn(deadline, afresh=True), names, pack)

    async def _learn(self, deadline: Deadline, afresh: bool = False) -> dict[str, Signature]:
        signatures = None if afresh else self._signatures
        if signatures is None:
            signatures = await self._ask(deadline, self._transport.signatures)
            self._signatures = signatures
        return signatures

    async def _ask(self, deadline: Deadline, ask: Callable[..., Any], *arguments: Any) -> Any:
        if not self._is_open:
            raise RuntimeError(
                "The client is closed. Expected calls before `close`. Received: after"
            )
        try:
            return await ask(*arguments, deadline.remaining())
        except ServingError as error:
            if error.code != UNAVAILABLE:
                # Perhaps the server has gone on to a version with other signatures.
                self._signatures = None
            raise


def _make_request(
    signatures: Mapping[str, Signature], names: Sequence[str], pack: PackInputs
) -> _Request:
    name = _find_signature(signatures, names)
    return _Request(name, signatures[name], pack(signatures[name]))


def _find_signature(signatures: Mapping[str, Signature], names: Sequence[str]) -> str:
    for name in names:
        if name in signatures:
            return name
    raise ValueError(
        f"The served model must have the signature {names[0]!r}"
        f"{_MADE_BY.get(names[0], '')}. Received: a model with {sorted(signatures)}"
    )


def _join(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except (KeyError, ValueError) as error:
        raise ServingError(
            "ABORTED", f"the model changed while it was asked; ask again. Received: {error}"
        ) from error


def _answer_to_nothing(request: _Request) -> Arrays:
    """No rows, of the form that rows would have; no server need be asked."""
    num_columns = int(request.inputs.get("k", 0))
    return {
        name: np.empty(_shape_of_nothing(info, num_columns), numpy_dtype(info.dtype))
        for name, info in request.signature.outputs.items()
    }


def _shape_of_nothing(info: TensorInfo, num_columns: int) -> list[int]:
    return [0, *(num_columns if size is None else size for size in (info.shape or (None,))[1:])]


def _take_output(outputs: Arrays, name: str) -> np.ndarray:
    if name not in outputs:
        raise ServingError(
            INTERNAL,
            f"the answer must have the output {name!r}. Received: {sorted(outputs)}",
        )
    return outputs[name]


def _to_result(outputs: Arrays) -> SearchResult:
    for name in ("ids", "scores"):
        _take_output(outputs, name)
    try:
        return SearchResult.from_outputs(outputs)
    except UnicodeDecodeError as error:
        raise ServingError(INTERNAL, f"ids must be UTF-8. Received: {error}") from error
