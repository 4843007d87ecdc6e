"""A network and its coded collection as one callable: the very graph that is served."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfpqn.index import CodeIndex, network_layout

from ..interface.limits import MAX_EXCLUSIONS, MAX_K, MAX_PIXELS, MAX_TAGS_PER_QUERY
from ..interface.packing import pack_ids
from ..interface.search_result import SearchResult
from ..search.filters import TagFilter, make_tag_sets
from ..search.input_checks import (
    check_batches,
    check_codes,
    check_count,
    check_embeddings,
    check_known,
    check_width,
)
from ..search.item_ids import ItemIds
from ..search.item_labels import ItemLabels
from ..search.scan import FLOOR_SCORE, NO_POSITION, ROWS_PER_BLOCK, Admits, Neighbours
from ..search.storages.choice import Progress, make_storage
from ..search.storages.storage import Queries
from .item_embedding import embed_items, items_spec
from .search_options import (
    check_queries,
    checked_calibration,
    checked_count,
    checked_partitioning,
    checked_second_stage,
)

Outputs = dict[str, tf.Tensor]

FILTERS = ("allow", "deny")


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
        top_k: Number of items that a search returns, at most 10,000.
        tag_columns: Metadata columns of the index whose values become tags, `"COLUMN=VALUE"`, for
            `search_with_filters`; of labels with names the names, `"label=cat"`.
        label_column: Metadata column of the index whose values searches return as `labels`; of
            labels with names the names. None for no labels.
        calibration: What `tfpqn.training.calibrate` found; searches then also say which items
            reach its score threshold.
        max_pixels: Largest width times height of an image; larger ones are refused undecoded.
        rows_per_block: Items scored at once at most, see `search_codes`.
        partition: Number of lists that the items are parted into, so that a search looks at a few
            of them; "auto" to choose it, or to choose no lists for a small collection; None for a
            search over all items.
        num_probes: Lists that a query looks at; chosen for `agreement` if None.
        exact: With lists, go on until no other list can hold one of the best items.
        agreement: Wanted share of a full search's items that a search over lists finds.
        tuning_queries: Embeddings `[queries, embedding_dim]` to measure the agreement with, best
            held-out ones; reconstructions of items if None, which are found more easily.
        progress: Is told the step of parting, and how many of how many items it has done.
        first_levels: Residual levels that candidates are found with; all levels rank them then.
        embeddings: Embeddings `[num_items, embedding_dim]` of the items, which rank the candidates
            that the codes find; kept in half precision, two bytes a number.
        num_candidates: Candidates of each query where there is such a second stage; ten times
            `top_k` if None.
        xla: Have XLA compile the search over all items. Only servers with XLA enabled can run the
            exported model; the stock server disables it unless told otherwise.

    Raises:
        ValueError: The index was built with other codebooks, the calibration is that of others,
            or an argument is out of range.

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
        tag_columns: Sequence[str] = (),
        label_column: str | None = None,
        calibration: Mapping[str, Any] | None = None,
        max_pixels: int = MAX_PIXELS,
        rows_per_block: int = ROWS_PER_BLOCK,
        partition: int | Literal["auto"] | None = None,
        num_probes: int | None = None,
        exact: bool = False,
        agreement: float = 0.99,
        tuning_queries: np.ndarray | None = None,
        progress: Progress | None = None,
        first_levels: int | None = None,
        embeddings: np.ndarray | None = None,
        num_candidates: int | None = None,
        xla: bool = False,
    ) -> None:
        super().__init__(name="searcher")
        if xla and partition is not None:
            raise ValueError("xla is for a search over all items. Received: partition as well")
        self.xla = xla
        partitioning = checked_partitioning(
            partition, num_probes, exact, agreement, tuning_queries, progress, index.num_items
        )
        if tuning_queries is not None:
            check_queries(tuning_queries, network.quantizer.embedding_dim)
        self.top_k = checked_count("top_k", top_k, MAX_K)
        self.rows_per_block = checked_count("rows_per_block", rows_per_block)
        self.max_pixels = checked_count("max_pixels", max_pixels)
        index.require_layout(network_layout(network))
        quantizer = network.quantizer
        if num_levels is not None:
            quantizer = quantizer.prefix(num_levels)
        self.num_levels = quantizer.num_levels
        self.calibration = checked_calibration(calibration, index, self.num_levels)
        second_stage = checked_second_stage(
            first_levels, embeddings, num_candidates, self.top_k, self.num_levels, calibration
        )
        self.code_length = quantizer.code_length
        self.num_items = index.num_items
        self.id_type = index.id_type
        self.layout = index.layout
        self.image_shape = network.image_shape
        self.items = network.items
        self.num_frames = network.num_frames
        self.embedding_dim = network.quantizer.embedding_dim
        self.quantizer_kind = type(network.quantizer).__name__
        # Only the variables are tracked: the Keras objects would be saved with all they hold.
        # Of a shorter code the levels left out stay behind, and a classifier searches nothing.
        parts = (network.quantizer, network.classifier)
        own = {id(variable) for part in parts if part for variable in part.variables}
        rest = [variable for variable in network.variables if id(variable) not in own]
        self.network_variables = [variable.value for variable in rest]
        self.quantizer_variables = [variable.value for variable in quantizer.variables]
        self._network = _Untracked(network)
        self._quantizer = _Untracked(quantizer)
        codes = index.codes[:, : self.code_length]
        self.ids = ItemIds(index.ids, index.id_type)
        self.labels = ItemLabels(index.metadata, label_column) if label_column else None
        self.tag_columns = tuple(dict.fromkeys(tag_columns))
        # Tags take memory, so only where there are some.
        tag_sets = make_tag_sets(index.metadata, self.tag_columns) if tag_columns else None
        self.storage, tag_sets = make_storage(
            quantizer,
            codes,
            self.layout.num_codewords,
            tag_sets,
            top_k=self.top_k,
            rows_per_block=self.rows_per_block,
            partitioning=partitioning,
            second_stage=second_stage,
            xla=xla,
        )
        self.num_lists = self.storage.num_lists
        self.tag_filter = None if tag_sets is None else TagFilter(tag_sets)
        # One function each for all signatures: the graph would hold a copy for each otherwise.
        self._embed = tf.function(
            lambda items: embed_items(network, items, self.max_pixels),
            input_signature=[items_spec(network)],
            autograph=False,
        )
        self._find_any = tf.function(
            lambda embeddings, top_k: self.storage.find(self._queries(embeddings), top_k),
            input_signature=[
                tf.TensorSpec([None, self.embedding_dim], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
            autograph=False,
        )
        self._functions = self._make_functions()

    def __call__(self, items: Sequence[Any]) -> SearchResult:
        """Search with encoded images, or with a network of clips with clips of encoded frames.

        Args:
            items: JPEG, PNG, GIF, WebP or BMP bytes, one string an image; of clips a sequence of
                such strings each, of any number of frames.

        Raises:
            TypeError: `items` is a single string, or an item is of the wrong kind.
            tf.errors.InvalidArgumentError: An image cannot be decoded.
        """
        packed = tf.constant(self.items.pack(items), tf.string)
        return _to_result(self._functions["search"](packed))

    def search_by_embedding(self, embeddings: np.ndarray) -> SearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not.

        Raises:
            ValueError: They have another shape.
        """
        shape = np.shape(embeddings)
        if len(shape) != 2 or shape[1] != self.embedding_dim:
            raise ValueError(
                f"embeddings must have shape [batch, {self.embedding_dim}]. Received: {shape}"
            )
        tensor = tf.constant(embeddings, tf.float32)
        return _to_result(self._functions["search_by_embedding"](tensor))

    def search_by_id(self, item_ids: Any) -> SearchResult:
        """Search with items of the collection `[batch]`; an item is not its own neighbour.

        Raises:
            TypeError: An id is not of the index's type.
            ValueError: An id does not fit int64.
            tf.errors.InvalidArgumentError: The collection has no item of an id.
        """
        packed = tf.constant(pack_ids("item_ids", item_ids, self.id_type), self.ids.dtype)
        return _to_result(self._functions["search_by_id"](packed))

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
        """One traced function a signature; each input has a name, and but for `k` a batch axis."""
        items = items_spec(self._network.value)
        embeddings = tf.TensorSpec([None, self.embedding_dim], tf.float32, name="embeddings")
        codes = tf.TensorSpec([None, self.code_length], tf.int32, name="codes")
        item_ids = tf.TensorSpec([None], self.ids.dtype, name="item_ids")
        exclude_ids = tf.TensorSpec([None, None], self.ids.dtype, name="exclude_ids")
        k = tf.TensorSpec([], tf.int32, name="k")
        tags = [tf.TensorSpec([None, None], tf.string, name=f"{verb}_tags") for verb in FILTERS]
        bodies: dict[str, tuple[Callable[..., Outputs], list[tf.TensorSpec]]] = {
            "search": (lambda items: self._search(self._embed(items)), [items]),
            "search_by_embedding": (
                lambda embeddings: self._search(check_embeddings(embeddings)),
                [embeddings],
            ),
            "search_by_id": (self._search_by_id, [item_ids]),
            "search_with_exclusions": (self._search_with_exclusions, [items, exclude_ids]),
            "search_k": (
                lambda items, k: self._search(self._embed(items), check_count(k, MAX_K, "k")),
                [items, k],
            ),
            "embed": (lambda items: {"embeddings": self._embed(items)}, [items]),
            "encode": (lambda items: {"codes": self._encode(self._embed(items))}, [items]),
            "decode": (lambda codes: {"embeddings": self._decode(codes)}, [codes]),
        }
        if self.num_lists is not None:
            num_probes = tf.TensorSpec([], tf.int32, name="num_probes")
            bodies["search_with_probes"] = (self._search_with_probes, [items, num_probes])
        if self.tag_filter is not None:
            search = functools.partial(self._search_with_filters, self.tag_filter)
            bodies["search_with_filters"] = (search, [items, *tags])
        return {
            name: tf.function(body, input_signature=inputs, autograph=False)
            for name, (body, inputs) in bodies.items()
        }

    def _search(
        self,
        embeddings: tf.Tensor,
        top_k: int | tf.Tensor | None = None,
        admits: Admits | None = None,
    ) -> Outputs:
        top_k = self.top_k if top_k is None else top_k
        return self._answer(self._find(embeddings, top_k, admits))

    def _search_by_id(self, item_ids: tf.Tensor) -> Outputs:
        """More like this: the item's reconstruction is the query, itself no answer."""
        positions = check_known(self.ids.positions(item_ids), "item_ids")
        embeddings = self._quantizer.value.decode(self.storage.codes_at(positions))
        found = self._find(embeddings, self.top_k + 1)
        is_itself = tf.equal(found.positions, positions[:, tf.newaxis])
        # The threshold is one for raw queries; a reconstruction scores higher.
        return self._answer(self._without(found, is_itself), has_matches=False)

    def _search_with_exclusions(self, items: tf.Tensor, exclude_ids: tf.Tensor) -> Outputs:
        items, exclude_ids = check_batches(
            **{self.items.input_name: items, "exclude_ids": exclude_ids}
        )
        exclude_ids = check_width(exclude_ids, "exclude_ids", MAX_EXCLUSIONS)
        # So many more that enough are left, whatever is excluded.
        found = self._find(self._embed(items), self.top_k + tf.shape(exclude_ids)[1])
        ids = self._answer(found)["ids"]
        is_excluded = tf.reduce_any(
            tf.equal(ids[:, :, tf.newaxis], exclude_ids[:, tf.newaxis, :]), axis=2
        )
        return self._answer(self._without(found, is_excluded))

    def _search_with_filters(
        self,
        tag_filter: TagFilter,
        items: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
    ) -> Outputs:
        items, allow_tags, deny_tags = check_batches(
            **{self.items.input_name: items, "allow_tags": allow_tags, "deny_tags": deny_tags}
        )
        admitted = tag_filter.admitted_sets(
            *(
                tag_filter.check_tags(check_width(tags, name, MAX_TAGS_PER_QUERY), name)
                for name, tags in (("allow_tags", allow_tags), ("deny_tags", deny_tags))
            )
        )
        return self._search(
            self._embed(items),
            admits=lambda positions, query=None: tag_filter.admits_items(
                admitted if query is None else admitted[:, query : query + 1], positions
            ),
        )

    def _search_with_probes(self, items: tf.Tensor, num_probes: tf.Tensor) -> Outputs:
        num_probes = check_count(num_probes, self.num_lists or 1, "num_probes")
        queries = self._queries(self._embed(items))
        return self._answer(self.storage.find(queries, self.top_k, num_probes=num_probes))

    def _find(
        self,
        embeddings: tf.Tensor,
        top_k: int | tf.Tensor,
        admits: Admits | None = None,
    ) -> Neighbours:
        if admits is not None:
            return self.storage.find(self._queries(embeddings), top_k, admits)
        found = self._find_any(embeddings, tf.convert_to_tensor(top_k))
        if not tf.is_tensor(top_k):
            for values in found:
                values.set_shape([None, top_k])
        return found

    def _queries(self, embeddings: tf.Tensor) -> Queries:
        quantizer = self._quantizer.value
        return Queries(quantizer.normalize(embeddings), quantizer.lookup_tables(embeddings))

    def _without(self, found: Neighbours, is_out: tf.Tensor) -> Neighbours:
        """The first `top_k` of those that are not out; the others keep their order."""
        is_out |= found.positions < 0
        _, order = tf.math.top_k(-tf.cast(is_out, tf.int32), self.top_k)
        is_out = tf.gather(is_out, order, batch_dims=1)
        scores = tf.gather(found.scores, order, batch_dims=1)
        positions = tf.gather(found.positions, order, batch_dims=1)
        return Neighbours(
            tf.where(is_out, FLOOR_SCORE, scores), tf.where(is_out, NO_POSITION, positions)
        )

    def _answer(self, found: Neighbours, has_matches: bool = True) -> Outputs:
        outputs = {"ids": self.ids.at(found.positions), "scores": found.scores}
        if self.labels is not None:
            outputs["labels"] = self.labels.at(found.positions)
        if self.calibration and has_matches:
            threshold = np.float32(self.calibration["score_threshold"])
            outputs["matches"] = found.scores >= threshold
        return outputs

    def _encode(self, embeddings: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._quantizer.value.encode(embeddings), tf.int32)

    def _decode(self, codes: tf.Tensor) -> tf.Tensor:
        return self._quantizer.value.decode(check_codes(codes, self.layout.num_codewords))


class _Untracked:
    """Hides an object from `tf.Module`'s tracking."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _to_result(outputs: Outputs) -> SearchResult:
    return SearchResult.from_outputs({name: value.numpy() for name, value in outputs.items()})
