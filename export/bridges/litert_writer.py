"""A network and its coded collection as a LiteRT model, for phones and small computers."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpqn.files.atomic import write_file_atomically
from tfpqn.index import CodeIndex

from ..model.searcher import Searcher
from ..search.codebooks import Codebooks
from .argument_types import require_types

# What one LiteRT file can hold, with some space for the network.
MOST_CODE_BYTES = 2**30
# Suffix of the file that names the items whose ids are strings.
SUFFIX, IDS_SUFFIX = ".tflite", ".ids.json"


def save_litert(
    network: Any,
    index: CodeIndex,
    path: str | os.PathLike[str],
    *,
    top_k: int = 10,
) -> Path:
    """Write a LiteRT (TensorFlow Lite) model that embeds and searches on a device.

    The file holds the network, the codes and the ids, and has built-in LiteRT operations alone. It
    finds what `Searcher(network, index, top_k=top_k)` finds in a search over all items.

    Signatures, of which each batch axis may be resized:

    - `embed`: items to `embeddings` float32 `[batch, embedding_dim]`;
    - `search`: items to `ids` int64 and `scores` float32, `[batch, top_k]`, best first;
    - `search_by_embedding`: such `embeddings` to the same.

    Items are `images` uint8 `[batch, height, width, channels]`: LiteRT decodes no files, so the
    application decodes and resizes them to `network.image_shape`, as
    `tfpqn.datasets.decode_image` does. Vectors are `embeddings` float32 `[batch, dim]`.

    Args:
        network: A built `ProductQuantizationNetwork` of images or vectors.
        index: The collection, coded by this network.
        path: The file to write, which ends in `.tflite`. It is replaced in one step.
        top_k: Number of items that a search returns, at most as many as there are.

    Returns:
        The path. Where ids are strings, `ids` are positions, and a JSON list of the ids lies
        beside: of `photos.tflite` in `photos.ids.json`. Where they are not, there is no such list.

    Raises:
        TypeError: The network or the index is something else.
        ValueError: LiteRT has no counterpart: clips, more codes than a file holds, fewer items than
            `top_k`, or an operation of the backbone, which the message names. Or the path is a
            folder or has another ending.
    """
    target = Path(path)
    _require_path(target)
    require_types(network, index)
    _require_convertible(network, index, top_k)
    content = _convert(_DeviceSearch(network, index, top_k))
    names_path = target.with_suffix(IDS_SUFFIX)
    if index.id_type == "string":
        names = json.dumps(index.ids.tolist(), ensure_ascii=False)
        write_file_atomically(names_path, names.encode())
    write_file_atomically(target, content)
    if index.id_type != "string":
        # One of a file that was here before would give wrong names to the ids.
        names_path.unlink(missing_ok=True)
    return target


class _DeviceSearch(tf.Module):
    """The functions of the signatures, and their variables."""

    def __init__(self, network: Any, index: CodeIndex, top_k: int) -> None:
        super().__init__(name="device_search")
        searcher = Searcher(network, index, top_k=top_k)
        self._codebooks: Codebooks = searcher.codebooks
        self._network, self._top_k = network, top_k
        self.kept = [*searcher.network_variables, *searcher.quantizer_variables]
        # Position by position. LiteRT gathers by int32 alone; a byte each is kept and widened.
        codes = np.ascontiguousarray(index.codes.T)
        self.codes = tf.Variable(codes if codes.dtype == np.uint8 else codes.astype(np.int32))
        is_named = index.id_type == "string" or searcher.ids.are_positions
        self.ids = None if is_named else tf.Variable(index.ids)

    def make_signatures(self) -> dict[str, Any]:
        items, embedding_dim = self._network.items, self._codebooks.embedding_dim
        dtype = tf.uint8 if items.has_pixels else tf.float32
        taken = tf.TensorSpec([None, *self._network.image_shape], dtype, items.input_name)
        embeddings = tf.TensorSpec([None, embedding_dim], tf.float32, "embeddings")
        signatures = {
            "embed": (lambda given: {"embeddings": self._embed(given)}, taken),
            "search": (lambda given: self._search(self._embed(given)), taken),
            "search_by_embedding": (self._search, embeddings),
        }
        return {
            name: tf.function(function, input_signature=[spec], autograph=False)
            for name, (function, spec) in signatures.items()
        }

    def _embed(self, items: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._network.embed(items, training=False), tf.float32)

    def _search(self, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        tables = self._codebooks.make_tables(embeddings, tf.float32)
        # A beginning that is known at run time alone: the converter would widen constants.
        begin = tf.stack([0, tf.minimum(tf.shape(embeddings)[0], 0)])
        codes = tf.slice(self.codes, begin, tf.shape(self.codes))
        scores = tf.zeros([])
        for position in range(self._codebooks.code_length):
            own = tf.cast(codes[position], tf.int32)
            scores += tf.gather(tables[position], own, axis=1)
        found = tf.math.top_k(scores, self._top_k)
        ids = tf.cast(found.indices, tf.int64)
        if self.ids is not None:
            ids = tf.gather(self.ids, found.indices)
        return {"ids": ids, "scores": found.values}


def _convert(module: _DeviceSearch) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.make_signatures())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return bytes(converter.convert())
        except Exception as error:
            missing = re.search(r"(?:Flex|Custom) ops: (.*)", str(error))
            if missing is None:
                raise
            raise ValueError(
                "The backbone must have operations of LiteRT alone. Received: one with "
                f"{missing[1]}"
            ) from None


def _require_path(path: Path) -> None:
    if path.suffix.lower() != SUFFIX or path.is_dir():
        raise ValueError(
            f"path must be a file that ends in {SUFFIX}. Received: {str(path)!r}"
            f"{', a folder' if path.is_dir() else ''}"
        )


def _require_convertible(network: Any, index: CodeIndex, top_k: int) -> None:
    if network.items.has_frames:
        raise ValueError(
            "LiteRT models are made of images and vectors. Received: a network of clips"
        )
    if index.codes.nbytes > MOST_CODE_BYTES:
        raise ValueError(
            f"A LiteRT file holds at most {MOST_CODE_BYTES:,} bytes of codes. "
            f"Received: {index.codes.nbytes:,}"
        )
    if not len(index):
        raise ValueError("index must hold at least one item. Received: none")
    if not isinstance(top_k, int | np.integer) or not 1 <= top_k <= len(index):
        raise ValueError(
            f"top_k must be an integer in 1 .. {len(index)}, the number of items. Received: "
            f"top_k={top_k!r}"
        )
