"""A router before the servers of shards: to whoever asks it, one server of the whole collection."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo as TensorInfoProto

from ..client import AsyncShardedSearchClient
from ..interface.delta import SIGNATURES_WITH_EXCLUSIONS
from ..interface.errors import ServingError
from ..interface.shard import DESCRIBE_SHARD
from ..interface.signatures import Arrays, Signature, TensorInfo
from ..interface.version_status import VersionStatus
from .model_version import ModelVersion
from .predictor import Predictor
from .refusals import refusal
from .server import MAX_MESSAGE_BYTES, Endpoints, running_endpoints
from .versions import ModelSpec, ModelVersions

# What no merging gives: only one shard knows the item's code, or each speaks of itself, or a delta
# has it not.
_LEFT_OUT = frozenset(
    {"search_by_id", DESCRIBE_SHARD}
    | (set(SIGNATURES_WITH_EXCLUSIONS.values()) - {"search_with_exclusions"})
)
# What passes when a server starts or comes back.
_PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND", "INTERNAL", "UNKNOWN"})
POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class ShardRouter(Endpoints):
    """Serves shards as one model, for clients in any language; see `ShardedSearchClient`.

    It answers a search as the client does. If a shard does not answer, at the start or later, it
    refuses searches and names the shard, until the shard is there; meanwhile health and model
    status say so, too. A version that goes away while a request is under
    way is UNAVAILABLE: clients ask again, and get the next one.

    Args:
        shards: As of `ShardedSearchClient`.
        model: The model's name on all servers, and here.
        host, port, rest_api_port, max_message_bytes, allowed_hosts: As of `ModelServer`.
        **options: The other arguments of `ShardedSearchClient`, but `allow_partial`.
    """

    def __init__(
        self,
        shards: Sequence[str | Sequence[str]],
        model: str,
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        rest_api_port: int | None = 8501,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        allowed_hosts: Sequence[str] = (),
        **options: Any,
    ) -> None:
        client = AsyncShardedSearchClient(
            shards, model, allow_partial=False, max_message_bytes=max_message_bytes, **options
        )
        versions = _RoutedVersions(model, client, lambda is_up: self._health.set_serving(is_up))
        super().__init__(
            versions,
            _RoutedPredictor(client),
            host=host,
            port=port,
            rest_api_port=rest_api_port,
            max_message_bytes=max_message_bytes,
            allowed_hosts=allowed_hosts,
        )


@contextmanager
def running_router(*arguments: Any, **options: Any) -> Iterator[ShardRouter]:
    """Run a `ShardRouter` in a thread of its own; takes what it takes."""
    with running_endpoints(lambda: ShardRouter(*arguments, **options)) as router:
        yield router


class _RemoteModel(NamedTuple):
    """What is known of a model that other servers run."""

    signatures: dict[str, Signature]

    @property
    def signature_definitions(self) -> dict[str, Any]:
        """The signatures as protos."""
        return {name: _write_signature(each) for name, each in self.signatures.items()}


class _RoutedVersions(ModelVersions):
    """The one version that all shards are asked for."""

    def __init__(
        self,
        name: str,
        client: AsyncShardedSearchClient,
        on_change: Callable[[bool], Awaitable[None]],
    ) -> None:
        super().__init__(
            name, Path(), labels={}, poll_seconds=POLL_SECONDS, on_load=lambda: on_change(True)
        )
        self._client, self._on_change = client, on_change
        # Why no search can be answered; None while they can be.
        self._failure: str | None = "the shards were not asked yet"

    def find(self, spec: ModelSpec) -> ModelVersion:
        if not self._available and spec.name == self.name:
            raise refusal("UNAVAILABLE", f"{self._failure}")
        return super().find(spec)

    def statuses(self, spec: ModelSpec) -> list[VersionStatus]:
        if not self._statuses and spec.name == self.name:
            raise refusal("UNAVAILABLE", f"{self._failure}")
        return super().statuses(spec)

    async def poll(self) -> None:
        try:
            await self._follow()
        except ServingError as error:
            if error.code not in _PASSING:
                raise
            await self._note(error.message)

    async def _follow(self) -> None:
        """Go on to the version that all shards have."""
        number = await self._client.version()
        if number not in self._available:
            signatures = await self._client.signatures()
            kept = {name: one for name, one in signatures.items() if name not in _LEFT_OUT}
            self._available = {number: ModelVersion(number, _RemoteModel(kept))}
        elif self._failure is None:
            return
        self._failure = None
        self._statuses = {number: VersionStatus(number, "AVAILABLE")}
        logger.info("Searching version %d of model %r", number, self.name)
        await self._on_load()

    async def _note(self, failure: str) -> None:
        """Say that searches have to wait, once for each reason."""
        if failure == self._failure:
            return
        self._failure = failure
        self._statuses = {
            number: VersionStatus(number, "LOADING", "UNAVAILABLE", failure)
            for number in self._available
        }
        logger.warning("Waiting for the shards of model %r (%s)", self.name, failure)
        await self._on_change(False)

    async def stop(self) -> None:
        await super().stop()
        await self._client.close()


class _RoutedPredictor(Predictor):
    """Asks the shards."""

    def __init__(self, client: AsyncShardedSearchClient) -> None:
        self._client = client

    async def predict(self, version: ModelVersion, signature_name: str, arrays: Arrays) -> Arrays:
        for _ in range(2):
            try:
                return await self._client.predict_at(version.number, signature_name, arrays)
            except ServingError as error:
                if error.code != "NOT_FOUND":
                    raise
            if await self._served_version() != version.number:
                break
            # A shard was away and is back: the second attempt asks it.
        message = f"version {version.number} is no longer served by every shard; ask again"
        raise ServingError("UNAVAILABLE", message)

    async def _served_version(self) -> int:
        """The version that all shards have now; UNAVAILABLE says which shard does not answer."""
        try:
            return await self._client.version()
        except ServingError as error:
            raise ServingError("UNAVAILABLE", error.message) from error

    def close(self) -> None:
        pass


def _write_signature(signature: Signature) -> Any:
    definition = SignatureDef(method_name="tensorflow/serving/predict")
    for protos, infos in (
        (definition.inputs, signature.inputs),
        (definition.outputs, signature.outputs),
    ):
        for name, info in infos.items():
            protos[name].CopyFrom(_write_info(name, info))
    return definition


def _write_info(name: str, info: TensorInfo) -> Any:
    proto = TensorInfoProto(name=name, dtype=tf.as_dtype(info.dtype).as_datatype_enum)
    if info.shape is None:
        proto.tensor_shape.unknown_rank = True
    for size in info.shape or ():
        proto.tensor_shape.dim.add(size=-1 if size is None else size)
    return proto
