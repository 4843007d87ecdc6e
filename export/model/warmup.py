"""Warm-up requests of a version folder: what a server replays before it serves a new version."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ..interface.delta import DESCRIBE_DELTA
from ..interface.shard import DESCRIBE_SHARD
from .search_graph import FILTERS
from .searcher import Searcher
from .version_folder import WARMUP_FILE

# What clients ask of a delta. It should be loaded soon: the next one follows within seconds.
_OF_DELTAS = frozenset(
    ("search", "search_by_embedding", "search_k", "search_with_exclusions", "search_with_filters")
    + (DESCRIBE_DELTA,)
)


def write_warmup_requests(
    searcher: Searcher, folder: Path, model_name: str, batch_sizes: Sequence[int]
) -> None:
    """Write one request for each signature and batch size; of a delta for some of them."""
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, inputs in _make_requests(searcher, batch_sizes):
            request = PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = name
            for input_name, value in inputs.items():
                request.inputs[input_name].CopyFrom(tf.make_tensor_proto(value))
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def _make_requests(
    searcher: Searcher, batch_sizes: Sequence[int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in searcher.signatures:
        # No item, no id that could be asked for.
        if name == "search_by_id" and not searcher.num_items:
            continue
        if searcher.delta is not None and name not in _OF_DELTAS:
            continue
        for size in batch_sizes:
            yield name, _make_inputs(searcher, name, size)


def _make_inputs(searcher: Searcher, name: str, size: int) -> dict[str, Any]:
    if name == "search_by_id":
        return {"item_ids": np.repeat(searcher.ids.at(tf.constant([0])).numpy(), size)}
    if name == "decode":
        return {"codes": np.zeros((size, searcher.code_length), np.int32)}
    if name in (DESCRIBE_SHARD, DESCRIBE_DELTA):
        return {"rows": np.zeros(size, np.int32)}
    inputs: dict[str, Any] = {}
    if name.startswith("search_by_embedding"):
        inputs["embeddings"] = np.ones((size, searcher.embedding_dim), np.float32)
    else:
        inputs[searcher.items.input_name] = _make_items(searcher, size)
    if name.endswith("exclusions"):
        no_id = b"" if searcher.id_type == "string" else -1
        inputs["exclude_ids"] = np.full((size, 1), no_id, object if no_id == b"" else np.int64)
    if "filters" in name:
        inputs.update({name: np.full((size, 1), b"", object) for name in FILTERS})
    elif name == "search_with_probes":
        inputs["num_probes"] = np.int32(1)
    elif name == "search_k":
        inputs["k"] = np.int32(searcher.top_k)
    return inputs


def _make_items(searcher: Searcher, size: int) -> np.ndarray:
    """Grey images `[size]`, clips `[size, num_frames]` of them, or vectors `[size, dim]`."""
    if not searcher.items.has_pixels:
        return np.ones((size, *searcher.image_shape), np.float32)
    height, width, channels = searcher.image_shape
    buffer = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (width, height), "gray").save(buffer, "PNG")
    shape = (size, searcher.num_frames or 1)[: searcher.items.encoded_rank]
    return np.full(shape, buffer.getvalue(), object)
