"""Servers of a model whose answers are written down here: real REST, a real page, and no graph.

An image's nearest items are those of the nearest mean colour; a clip and a vector find all items in
their order.
"""

import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.interface.version_status import VersionStatus
from tfpqn.export.server.model_version import ModelVersion
from tfpqn.export.server.refusals import bad_request
from tfpqn.export.server.server import Endpoints, running_endpoints
from tfpqn.export.server.shard_router import _RemoteModel
from tfpqn.export.server.versions import ModelVersions

NAME = "birds"
ITEM_INPUTS = {
    "images": TensorInfo("string", (None,)),
    "frames": TensorInfo("string", (None, None)),
    "embeddings": TensorInfo("float32", (None, 3)),
}


class Collection(NamedTuple):
    """What a fake model holds.

    Attributes:
        ids: str or int, of one type.
        labels: A label for each; None where the model has none.
        colours: Mean colour of each item, for images.
        item_input: What the model takes.
        top_k: Items that a search without `k` finds.
    """

    ids: list[Any]
    labels: list[str] | None = None
    colours: np.ndarray | None = None
    item_input: str = "images"
    top_k: int = 4

    @property
    def signatures(self) -> dict[str, Signature]:
        items = {self.item_input: ITEM_INPUTS[self.item_input]}
        id_type = "int64" if self.ids and isinstance(self.ids[0], int) else "string"
        tags = TensorInfo("string", (None, None))
        number = TensorInfo("int32", ())
        inputs = {
            "search": items,
            "search_by_id": {"item_ids": TensorInfo(id_type, (None,))},
            "search_with_filters": {**items, "allow_tags": tags, "deny_tags": tags},
            "search_with_probes": {**items, "num_probes": number},
            "search_k": {**items, "k": number},
        }
        return {name: self._describe(name, own, id_type) for name, own in inputs.items()}

    def _describe(self, name: str, inputs: dict[str, TensorInfo], id_type: str) -> Signature:
        shape = (None, None if name == "search_k" else self.top_k)
        outputs = {"ids": TensorInfo(id_type, shape), "scores": TensorInfo("float32", shape)}
        if self.labels is not None:
            outputs["labels"] = TensorInfo("string", shape)
        return Signature(inputs, outputs)


class _Predictor:
    """Answers one row; `requests` keeps what came."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.requests: list[tuple[str, dict[str, Any]]] = []

    async def predict(self, version: Any, name: str, arrays: dict[str, Any]) -> dict[str, Any]:
        self.requests.append((name, arrays))
        held = self.collection
        order = self._rank(arrays)
        for tag_input, keep in (("allow_tags", True), ("deny_tags", False)):
            tags = {tag.decode() for tag in arrays.get(tag_input, np.empty((1, 0)))[0] if tag}
            if tags:
                order = [i for i in order if (f"label={held.labels[i]}" in tags) == keep]
        k = int(arrays.get("k", held.top_k))
        found, missing = order[:k], [None] * (k - len(order))
        is_text = not held.ids or isinstance(held.ids[0], str)
        ids = [_encode(held.ids[i]) for i in found] + [b"" if is_text else -1 for _ in missing]
        scores = [4 - 0.125 * rank for rank in range(len(found))]
        scores += [float(np.finfo(np.float32).min) for _ in missing]
        outputs = {
            "ids": np.array([ids], object if is_text else np.int64),
            "scores": np.array([scores], np.float32),
        }
        if held.labels is not None:
            labels = [held.labels[i].encode() for i in found] + [b"" for _ in missing]
            outputs["labels"] = np.array([labels], object)
        return outputs

    def _rank(self, arrays: dict[str, Any]) -> list[int]:
        held = self.collection
        places = list(range(len(held.ids)))
        if "item_ids" in arrays:
            id_ = arrays["item_ids"][0]
            id_ = id_.decode() if isinstance(id_, bytes) else int(id_)
            if id_ not in held.ids:
                raise bad_request(f"item_ids must be ids of the collection. Received: {id_!r}")
            own = held.ids.index(id_)
            return sorted((i for i in places if i != own), key=lambda i: abs(i - own))
        if "images" in arrays and held.colours is not None:
            colour = _read_colour(arrays["images"][0])
            return sorted(places, key=lambda i: float(np.abs(held.colours[i] - colour).sum()))
        return places

    def close(self) -> None:
        pass


class _Versions(ModelVersions):
    """One version, which is always there."""

    def __init__(self, collection: Collection) -> None:
        async def on_load() -> None:
            pass

        super().__init__(NAME, Path(), labels={}, poll_seconds=3600, on_load=on_load)
        self._model = _RemoteModel(collection.signatures)

    async def poll(self) -> None:
        self._available = {3: ModelVersion(3, self._model)}
        self._statuses = {3: VersionStatus(3, "AVAILABLE")}


class Fake(NamedTuple):
    """A running server of a fake model, and what it was asked."""

    url: str
    port: int
    requests: list[tuple[str, dict[str, Any]]]


@contextmanager
def serve_fake(collection: Collection, images: Any = None, **options: Any) -> Any:
    predictor = _Predictor(collection)
    options = {"port": 0, "rest_api_port": 0, "ui": True, "images": images, **options}
    with running_endpoints(lambda: Endpoints(_Versions(collection), predictor, **options)) as own:
        yield Fake(f"http://127.0.0.1:{own.rest_port}/", own.rest_port, predictor.requests)


def make_picture(colour: Any, size: tuple[int, int] = (24, 16), file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, tuple(map(int, colour))).save(file, file_format)
    return file.getvalue()


def _read_colour(data: bytes) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean(axis=(0, 1))
    except OSError:
        raise bad_request(
            "The input 'images' must hold the bytes of image files. "
            f"Received: {len(data)} other bytes in row 0"
        ) from None


def _encode(id_: Any) -> Any:
    return id_.encode() if isinstance(id_, str) else id_
