"""A network and its coded collection as one callable: the very graph that is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpqn.datasets import decode_image
from tfpqn.index import CodeIndex, network_layout

from .input_checks import (
    check_codes,
    check_embeddings,
    check_frames,
    check_images,
    check_whole_clips,
)
from .items import pack_items
from .search import ROWS_PER_BLOCK, search_codes

Outputs = dict[str, tf.Tensor]

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30


class SearchResult(NamedTuple):
    """What a search found, best first.

    Attributes:
        ids: `[batch, top_k]`, int64 or object array of str; -1 or "" where there are fewer items.
        scores: float32 `[batch, top_k]`, larger is nearer.
    """

    ids: np.ndarray
    scores: np.ndarray


class Searcher(tf.Module):
    """Searches a coded collection with a network's embeddings.

    Codes, ids, codebooks and the network's weights are variables; the search is built of standard
    TensorFlow ops. The object keeps a reference to the network's weights: train on, and the
    searcher follows; once the codebooks move, it can no longer be saved.

    Args:
        network: A built `ProductQuantizationNetwork`.
        index: The collection, coded by this network's codebooks.
        num_levels: Residual levels of the codes that are searched; fewer than the quantizer has
            make a smaller, faster and coarser search out of the same index. None for all.
        top_k: Number of items that a search returns.
        rows_per_block: Items scored at once, see `search_codes`.

    Raises:
        ValueError: The index was built with other codebooks, or an argument is out of range.

    Example:

    >>> searcher = Searcher(network, index, top_k=10)
    >>> ids, scores = searcher([open("bird.jpg", "rb").read()])  # [1, 10] each
    >>> ids, scores = clip_searcher([[frame, frame, frame]])     # a network of clips: [1, 10] each
    """

    def __init__(
        self,
        network: Any,
        index: CodeIndex,
        *,
        num_levels: int | None = None,
        top_k: int = 10,
        rows_per_block: int = ROWS_PER_BLOCK,
    ) -> None:
        super().__init__(name="searcher")
        top_k = _checked_count("top_k", top_k)
        rows_per_block = _checked_count("rows_per_block", rows_per_block)
        index.require_layout(network_layout(network))
        self.top_k = top_k
        self.rows_per_block = rows_per_block
        quantizer = network.quantizer
        if num_levels is not None:
            quantizer = quantizer.prefix(num_levels)
        self.num_levels = quantizer.num_levels
        self.code_length = quantizer.code_length
        self.num_items = index.num_items
        self.id_type = index.id_type
        self.layout = index.layout
        self.image_shape = network.image_shape
        self.takes_clips = network.takes_clips
        self.embedding_dim = network.quantizer.embedding_dim
        self.quantizer_kind = type(network.quantizer).__name__
        # Only the variables are tracked: the Keras objects would be saved with all they hold.
        # Of a shorter code the levels left out stay behind.
        own = {id(variable) for variable in network.quantizer.variables}
        rest = [variable for variable in network.variables if id(variable) not in own]
        self.network_variables = [v.value for v in (*rest, *quantizer.variables)]
        self._network = _Untracked(network)
        self._quantizer = _Untracked(quantizer)
        # Codes lie position by position, the order in which the search reads them.
        codes = np.ascontiguousarray(index.codes[:, : self.code_length].T)
        self.codes = tf.Variable(codes, trainable=False, name="codes")
        id_dtype = tf.string if index.id_type == "string" else tf.int64
        self.ids = tf.Variable(tf.constant(index.ids, id_dtype), trainable=False, name="ids")
        self._functions = self._make_functions()

    def __call__(self, items: Sequence[Any]) -> SearchResult:
        """Search with encoded images, or with a network of clips with clips of encoded frames.

        Args:
            items: JPEG, PNG, GIF or BMP bytes, one string an image; of clips a sequence of such
                strings each, of any number of frames.

        Raises:
            TypeError: `items` is a single string, or an item is of the wrong kind.
            tf.errors.InvalidArgumentError: An image cannot be decoded.
        """
        packed = tf.constant(pack_items(items, self.takes_clips), tf.string)
        return _to_result(self._functions["search"](packed))

    def search_by_embedding(self, embeddings: np.ndarray) -> SearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not."""
        tensor = tf.constant(embeddings, tf.float32)
        return _to_result(self._functions["search_by_embedding"](tensor))

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """The serving functions by signature name, `serving_default` first."""
        return {"serving_default": self._functions["search"], **self._functions}

    def require_own_codebooks(self) -> None:
        """Raises ValueError if the network was trained on, so that the codes mean other items."""
        fingerprint = network_layout(self._network.value).fingerprint
        if fingerprint != self.layout.fingerprint:
            raise ValueError(
                "the index must be built with the network's codebooks, which have changed since: "
                f"expected fingerprint {self.layout.fingerprint[:12]}..., that of the index built "
                f"with other codebooks. Received: {fingerprint[:12]}...; encode the items again"
            )

    def _make_functions(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """One traced function a signature; each input and output has a batch axis and a name."""
        items = tf.TensorSpec([None], tf.string, name="images")
        if self.takes_clips:
            items = tf.TensorSpec([None, None], tf.string, name="frames")
        embeddings = tf.TensorSpec([None, self.embedding_dim], tf.float32, name="embeddings")
        codes = tf.TensorSpec([None, self.code_length], tf.int32, name="codes")
        return {
            "search": tf.function(
                lambda items: self._search(self._embed(items)), input_signature=[items]
            ),
            "search_by_embedding": tf.function(
                lambda embeddings: self._search(check_embeddings(embeddings)),
                input_signature=[embeddings],
            ),
            "embed": tf.function(
                lambda items: {"embeddings": self._embed(items)}, input_signature=[items]
            ),
            "encode": tf.function(
                lambda items: {"codes": self._encode(self._embed(items))},
                input_signature=[items],
            ),
            "decode": tf.function(
                lambda codes: {"embeddings": self._decode(codes)}, input_signature=[codes]
            ),
        }

    def _embed(self, items: tf.Tensor) -> tf.Tensor:
        network = self._network.value
        if not self.takes_clips:
            return network.embed(self._decode_images(check_images(items)), training=False)
        frames = check_frames(items)
        shape = tf.cast(tf.concat([tf.shape(frames), self.image_shape], axis=0), tf.int64)
        if not network.folds_frames:
            frames = check_whole_clips(frames, network.num_frames)
            clips = tf.reshape(self._decode_images(tf.reshape(frames, [-1])), shape)
            clips = tf.ensure_shape(clips, [None, network.num_frames, *self.image_shape])
            return network.embed(clips, training=False)
        is_frame = tf.not_equal(frames, "")
        pixels = self._decode_images(tf.boolean_mask(frames, is_frame))
        clips = tf.scatter_nd(tf.where(is_frame), pixels, shape)
        clips = tf.ensure_shape(clips, [None, None, *self.image_shape])
        return network.embed({"frames": clips, "mask": is_frame}, training=False)

    def _decode_images(self, images: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda data: decode_image(data, self.image_shape),
            images,
            fn_output_signature=tf.TensorSpec(self.image_shape, tf.uint8),
            # The decoder's own errors name the input by the node that fails.
            name="frames" if self.takes_clips else "images",
        )

    def _search(self, embeddings: tf.Tensor) -> Outputs:
        tables = self._quantizer.value.lookup_tables(embeddings)
        found = search_codes(tables, self.codes, self.top_k, self.rows_per_block)
        missing = tf.constant("" if self.id_type == "string" else -1, self.ids.dtype)
        if not self.num_items:
            return {"ids": tf.fill(tf.shape(found.positions), missing), "scores": found.scores}
        ids = tf.gather(self.ids, tf.maximum(found.positions, 0))
        return {"ids": tf.where(found.positions < 0, missing, ids), "scores": found.scores}

    def _encode(self, embeddings: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._quantizer.value.encode(embeddings), tf.int32)

    def _decode(self, codes: tf.Tensor) -> tf.Tensor:
        return self._quantizer.value.decode(check_codes(codes, self.layout.num_codewords))


class _Untracked:
    """Hides an object from `tf.Module`'s tracking."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    # Positions are int32, and a scan goes one block beyond the last.
    if not 1 <= value <= MAX_COUNT:
        raise ValueError(
            f"{name} must be at least 1 and at most {MAX_COUNT}. Received: {name}={value}"
        )
    return int(value)


def _to_result(outputs: Outputs) -> SearchResult:
    ids = outputs["ids"].numpy()
    if ids.dtype == object:
        ids = np.array([[id_.decode() for id_ in row] for row in ids], object).reshape(ids.shape)
    return SearchResult(ids, outputs["scores"].numpy())
