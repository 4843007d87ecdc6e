"""A network and its coded collection as one callable: the very graph that is served."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfpqn.index import CodeIndex, network_layout
from tfpqn.index.number_rows import read_embeddings
from tfpqn.protocols import NetworkLike, QuantizerLike
from tfpqn.similarities import SIMILARITIES

from ..interface.signatures import require_inputs, require_signature
from ..search.codebooks import Codebooks, Distance
from ..search.filters import TagFilter, make_tag_sets
from ..search.item_ids import ItemIds
from ..search.item_labels import ItemLabels
from ..search.storages.choice import make_storage
from .search_graph import Function, SearchGraph
from .search_methods import SearchMethods
from .search_options import CANDIDATES_PER_ITEM, SearchOptions


class Searcher(tf.Module, SearchMethods):
    """Searches a coded collection with a network's embeddings.

    Codes, ids, codebooks and the network's weights are variables; the search is built of standard
    TensorFlow ops. The object refers to the network's own weights, so it follows where the network
    is trained on. Codebooks are copied, at the length that codes decode to, because the codes of
    the index belong to them: once the network's move, the searcher can no longer be saved.

    Args:
        network: A built `ProductQuantizationNetwork`.
        index: The collection, coded by this network's codebooks.
        num_levels: Residual levels of the codes that are searched; fewer than the quantizer has
            make a smaller, faster and coarser search out of the same index. None for all.
        top_k: Number of items that a search returns, at most 10,000.
        tag_columns: Metadata columns of the index whose values become tags, `"COLUMN=VALUE"`, for
            `search_with_filters`; of labels with names the names, `"label=cat"`.
        known_tags: Tags that are no error although no item of this index has them; None if no tag
            is one.
        label_column: Metadata column of the index whose values searches return as `labels`; of
            labels with names the names. None for no labels.
        calibration: What `tfpqn.training.calibrate` found; searches then also say which items
            reach its score threshold.
        max_pixels: Largest width times height of an image; larger ones are refused undecoded.
        partition: Number of lists that the items are parted into, so that a search looks at a few
            of them; "auto" for about twice the square root of the items, where that pays; None for
            a search over all items.
        num_probes: Lists that a query looks at; chosen for `agreement` if None.
        agreement: Wanted share of a full search's items that a search over lists finds.
        tuning_queries: Embeddings `[queries, embedding_dim]` to measure the agreement with, best
            held-out ones; reconstructions of items if None, which are found more easily.
        progress: Is told the step of parting, and how many of how many items it has done.
        rerank: Whether candidates, which codes find, are ranked by the items' embeddings, float16;
            scores are then those of the embeddings. `build_index(keep_embeddings=True)` keeps them.
        num_candidates: Candidates of each query with `rerank`; ten times `top_k` if None.
        shard: Which part of a collection the index is; `save_shards` gives it. None for a whole.
        delta: Which bases the index goes with, if it is what came since; `tfpqn ingest` gives it.

    Raises:
        ValueError: The index was built with other codebooks, the calibration is that of others,
            or an argument is out of range.

    Example:

    >>> searcher = tfpqn.export.Searcher(network, index, top_k=3)
    >>> ids, scores = searcher([splits.query.encoded_image(0)])
    >>> ids.shape, scores.shape
    ((1, 3), (1, 3))
    """

    def __init__(self, network: NetworkLike, index: CodeIndex, **options: Any) -> None:
        super().__init__(name="searcher")
        chosen = SearchOptions(**options)
        # A function, because `tf.Module` would track the network.
        self._read_layout = partial(network_layout, network)
        index.require_layout(self._read_layout())
        quantizer = _copy_quantizer(network.quantizer, chosen.num_levels)
        chosen.require_calibration_of(index, quantizer.num_levels)
        self._keep_facts(network, index, quantizer, chosen)
        self._track_variables(network, quantizer)
        self._add_collection(index, quantizer, chosen)
        self._functions = SearchGraph(self, network, quantizer).make_functions()

    def _keep_facts(
        self,
        network: NetworkLike,
        index: CodeIndex,
        quantizer: QuantizerLike,
        chosen: SearchOptions,
    ) -> None:
        """What callers and the manifest are told."""
        self.top_k, self.max_pixels = chosen.top_k, chosen.max_pixels
        self.shard, self.delta = chosen.shard, chosen.delta
        self.tag_columns = tuple(dict.fromkeys(chosen.tag_columns))
        self.calibration = None if chosen.calibration is None else dict(chosen.calibration)
        self.num_items, self.id_type, self.layout = index.num_items, index.id_type, index.layout
        self.items, self.image_shape = network.items, network.image_shape
        if self.items.has_pixels and math.prod(self.image_shape[:2]) > self.max_pixels:
            raise ValueError(
                f"max_pixels must be at least those of the network's images, {self.image_shape}. "
                f"Received: max_pixels={self.max_pixels}"
            )
        self.num_frames = network.num_frames
        self.quantizer_kind = type(network.quantizer).__name__
        self.embedding_dim = quantizer.embedding_dim
        self.num_levels, self.code_length = quantizer.num_levels, quantizer.code_length

    def _add_collection(
        self, index: CodeIndex, quantizer: QuantizerLike, chosen: SearchOptions
    ) -> None:
        """Codes, ids, labels and tags; the latter take memory, so only where there are some."""
        codes = index.codes[:, : self.code_length]
        self.codebooks = Codebooks(
            self.quantizer_variables[0], self.embedding_dim, _distance_of(quantizer)
        )
        self.ids = ItemIds(index.ids, index.id_type)
        label_column = chosen.label_column
        self.labels = ItemLabels(index.metadata, label_column) if label_column else None
        tag_sets = None
        if self.tag_columns:
            tag_sets = make_tag_sets(index.metadata, self.tag_columns, chosen.known_tags or ())
        self.storage, tag_sets = make_storage(
            self.codebooks,
            codes,
            tag_sets,
            top_k=self.top_k,
            partitioning=chosen.choose_partitioning(quantizer, codes),
            embeddings=read_embeddings(index.metadata, self.embedding_dim)
            if chosen.rerank
            else None,
            num_candidates=chosen.num_candidates or CANDIDATES_PER_ITEM * self.top_k,
        )
        self.num_lists = self.storage.num_lists
        self.tag_filter = None
        if tag_sets is not None:
            self.tag_filter = TagFilter(
                tag_sets, takes_any=chosen.known_tags is None, order=self.storage.order
            )

    @property
    def signatures(self) -> dict[str, Function]:
        """The serving functions by signature name, `serving_default` first."""
        return {"serving_default": self._functions["search"], **self._functions}

    def require_own_codebooks(self) -> None:
        """Raises ValueError if the network was trained on, so that the codes mean other items."""
        self.layout.require(self._read_layout())

    def run(self, signature_name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Run any signature on arrays by input name."""
        require_signature(signature_name, self.signatures)
        function = self.signatures[signature_name]
        require_inputs(signature_name, [i.name for i in function.input_signature], inputs)
        tensors = [tf.constant(inputs[i.name], i.dtype) for i in function.input_signature]
        return {name: value.numpy() for name, value in function(*tensors).items()}

    def _track_variables(self, network: NetworkLike, quantizer: QuantizerLike) -> None:
        """Keep variables alone: the Keras objects would be saved with all that they hold.

        A search needs no classifier, and of the codebooks only the copy.
        """
        parts = (network.quantizer, network.classifier)
        left_out = {id(variable) for part in parts if part for variable in part.variables}
        kept = [variable for variable in network.variables if id(variable) not in left_out]
        self.network_variables = [variable.value for variable in kept]
        self.quantizer_variables = [variable.value for variable in quantizer.variables]


def _distance_of(quantizer: QuantizerLike) -> Distance | None:
    """How the quantizer's scores go by distance, if they do."""
    rule = SIMILARITIES[quantizer.similarity]
    if not rule.norm_weight:
        return None
    offsets = -rule.norm_weight * np.asarray(quantizer.squared_norms())
    return Distance(rule.norm_weight, rule.constant, offsets)


def _copy_quantizer(quantizer: QuantizerLike, num_levels: int | None) -> Any:
    """The quantizer of the first levels, its codebooks at the length that codes decode to."""
    copied = quantizer.prefix(quantizer.num_levels if num_levels is None else num_levels)
    decoded = np.stack([copied.decoded_codebooks(level) for level in range(copied.num_levels)])
    copied.codebooks.assign(decoded.reshape(copied.codebooks.shape))
    return copied
