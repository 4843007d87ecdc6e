"""A collection of random items in fake servers, a slice in each, and its answers in slow NumPy."""

import threading
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2

from tests.client.fake_servers import FakeModel, Refused
from tests.export.tiny import rank

NUM_ITEMS, WIDTH, TOP_K = 30, 4, 5
EXPORT = "0123456789abcdef"


class Items:
    """Items of few different vectors, so that many tie; ids of no order."""

    def __init__(self, version: int) -> None:
        rng = np.random.default_rng(version)
        self.vectors = rng.integers(0, 2, (NUM_ITEMS, WIDTH)).astype(np.float32)
        # An id says the version that it is of.
        self.ids = rng.permutation(NUM_ITEMS) + 1000 * version
        self.id_type = "int64"

    def part(self, number: int, num_shards: int) -> "Items":
        part = Items.__new__(Items)
        ends = [NUM_ITEMS * n // num_shards for n in (number, number + 1)]
        part.vectors, part.ids = self.vectors[slice(*ends)], self.ids[slice(*ends)]
        part.id_type = self.id_type
        return part

    def search(self, embeddings: np.ndarray) -> Any:
        return rank(embeddings @ self.vectors.T, self, TOP_K)


class ShardModel(FakeModel):
    """One shard, in the versions that it has.

    Attributes:
        versions: Those that are available; of each there are items of its own.
        describes: What it says of its place: number, count and export.
        gate: Searches wait for it, unless it is set.
        searched: Version of each search that was asked for.
    """

    def __init__(self, number: int, num_shards: int, versions: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.versions = versions
        self.describes = {"number": number, "num_shards": num_shards, "export_id": EXPORT}
        self.gate = threading.Event()
        self.gate.set()
        self.searched: list[int] = []
        self._place = number, num_shards

    @property
    def states(self) -> dict[int, str]:
        return dict.fromkeys(self.versions, "AVAILABLE")

    def run(self, signature: str, version: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        version = version or max(self.versions)
        if version not in self.versions:
            raise Refused("NOT_FOUND")
        if signature == "describe_shard":
            return {name: np.array([value]) for name, value in self.describes.items()}
        self.searched.append(version)
        self.gate.wait(60)
        found = Items(version).part(*self._place).search(inputs["embeddings"])
        return {"ids": found.ids, "scores": found.scores.astype(np.float32)}

    @property
    def definitions(self) -> Any:
        map_ = get_model_metadata_pb2.SignatureDefMap()
        outputs = {"ids": (tf.int64, TOP_K), "scores": (tf.float32, TOP_K)}
        place = {"number": (tf.int32,), "num_shards": (tf.int32,), "export_id": (tf.string,)}
        for name, ends in {
            "search": ({"embeddings": (tf.float32, WIDTH)}, outputs),
            "search_by_embedding": ({"embeddings": (tf.float32, WIDTH)}, outputs),
            "describe_shard": ({"rows": (tf.int32,)}, place),
        }.items():
            definition = map_.signature_def[name]
            for infos, tensors in zip((definition.inputs, definition.outputs), ends, strict=True):
                for key, (dtype, *row) in tensors.items():
                    infos[key].dtype = dtype.as_datatype_enum
                    infos[key].tensor_shape.CopyFrom(tf.TensorShape([None, *row]).as_proto())
        return map_
