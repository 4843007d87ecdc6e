"""The functions of a searcher's signatures: from items, embeddings or ids to answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfpqn.protocols import NetworkLike, QuantizerLike
from tfpqn.similarities import SUBSPACE

from ..interface.bounds import MAX_EXCLUSIONS, MAX_K, MAX_TAGS_PER_QUERY
from ..interface.delta import DESCRIBE_DELTA, Delta
from ..interface.shard import DESCRIBE_SHARD, Shard
from ..search.codebooks import Codebooks, unit_slices
from ..search.filters import TagFilter
from ..search.input_checks import (
    check_batches,
    check_codes,
    check_count,
    check_embeddings,
    check_known,
    check_width,
)
from ..search.item_ids import ItemIds, are_among
from ..search.item_labels import ItemLabels
from ..search.neighbours import FLOOR_SCORE, NO_POSITION, Neighbours
from ..search.storages.storage import Queries, Storage
from .item_embedding import embed_items, items_spec

Outputs: TypeAlias = dict[str, tf.Tensor]
# A `tf.function`, whose type TensorFlow does not publish.
Function: TypeAlias = Any

FILTERS = ("allow_tags", "deny_tags")


class SearchGraph:
    """What the signatures do; each embedding is normalised once on its way through.

    Args:
        searcher: The collection: codebooks, storage, ids, labels and tags.
        network: What embeds the items.
        quantizer: What normalises and codes the embeddings.
    """

    def __init__(self, searcher: Any, network: NetworkLike, quantizer: QuantizerLike) -> None:
        self.codebooks: Codebooks = searcher.codebooks
        self.storage: Storage = searcher.storage
        self.ids: ItemIds = searcher.ids
        self.labels: ItemLabels | None = searcher.labels
        self.tag_filter: TagFilter | None = searcher.tag_filter
        self.top_k: int = searcher.top_k
        self.shard: Shard | None = searcher.shard
        self.delta: Delta | None = searcher.delta
        self.score_threshold = (searcher.calibration or {}).get("score_threshold")
        self.quantizer = quantizer
        self.items = items_spec(network)
        # What several signatures do is a function of its own, or each would hold a copy of it.
        embeddings = tf.TensorSpec([None, self.codebooks.embedding_dim], tf.float32)
        embed = partial(embed_items, network, max_pixels=searcher.max_pixels)
        self._embed = _trace(embed, self.items)
        # A number that is known takes fewer ops.
        self._find = _trace(partial(self._search, top_k=self.top_k), embeddings)
        self._find_any = _trace(self._search, embeddings, tf.TensorSpec([], tf.int32))

    def make_functions(self) -> dict[str, Function]:
        """One traced function for each signature."""
        items = self.items
        embeddings = tf.TensorSpec([None, self.codebooks.embedding_dim], tf.float32, "embeddings")
        codes = tf.TensorSpec([None, self.codebooks.code_length], tf.int32, "codes")
        item_ids = tf.TensorSpec([None], self.ids.dtype, "item_ids")
        exclude_ids = tf.TensorSpec([None, None], self.ids.dtype, "exclude_ids")
        number = partial(tf.TensorSpec, [], tf.int32)
        functions = {
            "search": _trace(self._by_item, items),
            "search_by_embedding": _trace(self._by_embedding, embeddings),
            "search_by_id": _trace(self._by_id, item_ids),
            "search_with_exclusions": _trace(self._with_exclusions, items, exclude_ids),
            "search_k": _trace(self._any_number, items, number("k")),
            "embed": _trace(lambda items: {"embeddings": self._embed(items)}, items),
            "encode": _trace(self._encode, items),
            "decode": _trace(self._decode, codes),
        }
        if self.storage.num_lists is not None:
            probes = number("num_probes")
            functions["search_with_probes"] = _trace(self._with_probes, items, probes)
        if self.tag_filter is not None:
            tags = [tf.TensorSpec([None, None], tf.string, name) for name in FILTERS]
            search = partial(self._with_filters, self.tag_filter)
            functions["search_with_filters"] = _trace(search, items, *tags)
            if self.shard is not None:
                functions["search_with_filters_and_exclusions"] = _trace(
                    search, items, *tags, exclude_ids
                )
        rows = tf.TensorSpec([None], tf.int32, "rows")
        if self.shard is not None:
            functions["search_by_embedding_with_exclusions"] = _trace(
                self._by_embedding_with_exclusions, embeddings, exclude_ids
            )
            functions[DESCRIBE_SHARD] = _trace(partial(_repeat, self.shard), rows)
        if self.delta is not None:
            functions[DESCRIBE_DELTA] = _trace(partial(self._describe_delta, self.delta), rows)
        return functions

    def _by_item(self, items: tf.Tensor) -> Outputs:
        return self._answer(self._find_best(self._embed(items), self.top_k))

    def _by_embedding(self, embeddings: tf.Tensor) -> Outputs:
        embeddings = self._normalize(check_embeddings(embeddings))
        return self._answer(self._find_best(embeddings, self.top_k))

    def _by_id(self, item_ids: tf.Tensor) -> Outputs:
        """More like this: the item, as it is kept, is the query and no answer."""
        positions = check_known(self.ids.positions(item_ids), "item_ids")
        embeddings = self.storage.embeddings_at(positions)
        if embeddings is None:
            embeddings = self.codebooks.decode(self.storage.codes_at(positions))
        embeddings = self._normalize(embeddings)
        found = self._find_best(embeddings, self.top_k + 1)
        is_itself = tf.equal(found.positions, positions[:, tf.newaxis])
        # The threshold is one for raw queries; a reconstruction scores higher.
        return self._answer(self._without(found, is_itself), has_matches=False)

    def _any_number(self, items: tf.Tensor, k: tf.Tensor) -> Outputs:
        return self._answer(self._find_best(self._embed(items), check_count(k, MAX_K, "k")))

    def _with_exclusions(self, items: tf.Tensor, exclude_ids: tf.Tensor) -> Outputs:
        items, exclude_ids = self._check_rows(items, exclude_ids=exclude_ids)
        return self._answer(self._find_others(self._embed(items), exclude_ids, self._find_best))

    def _by_embedding_with_exclusions(
        self, embeddings: tf.Tensor, exclude_ids: tf.Tensor
    ) -> Outputs:
        _, exclude_ids = check_batches(embeddings=embeddings, exclude_ids=exclude_ids)
        embeddings = self._normalize(check_embeddings(embeddings))
        return self._answer(self._find_others(embeddings, exclude_ids, self._find_best))

    def _with_probes(self, items: tf.Tensor, num_probes: tf.Tensor) -> Outputs:
        num_probes = check_count(num_probes, self.storage.num_lists or 1, "num_probes")
        found = self._search(self._embed(items), self.top_k, num_probes=num_probes)
        return self._answer(found)

    def _with_filters(
        self,
        tag_filter: TagFilter,
        items: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
        exclude_ids: tf.Tensor | None = None,
    ) -> Outputs:
        tags = {"allow_tags": allow_tags, "deny_tags": deny_tags}
        excluded = {} if exclude_ids is None else {"exclude_ids": exclude_ids}
        items, *_ = self._check_rows(items, **tags, **excluded)
        allowed, denied = (
            tag_filter.check_tags(check_width(values, name, MAX_TAGS_PER_QUERY), name)
            for name, values in tags.items()
        )
        search = partial(self._search, admits=tag_filter.admit(allowed, denied))
        if exclude_ids is None:
            return self._answer(search(self._embed(items), self.top_k))
        return self._answer(self._find_others(self._embed(items), exclude_ids, search))

    def _find_others(
        self, embeddings: tf.Tensor, exclude_ids: tf.Tensor, search: Callable[..., Neighbours]
    ) -> Neighbours:
        """The best items but the excluded ones."""
        exclude_ids = check_width(exclude_ids, "exclude_ids", MAX_EXCLUSIONS)
        # So many more that enough are left, whatever is excluded.
        found = search(embeddings, self.top_k + tf.shape(exclude_ids)[1])
        return self._without(found, are_among(self.ids.at(found.positions), exclude_ids))

    def _describe_delta(self, delta: Delta, rows: tf.Tensor) -> Outputs:
        values = {
            "bases": tf.constant(list(delta.bases), tf.string),
            "hidden_ids": tf.constant(list(delta.hidden), self.ids.dtype),
        }
        return {name: tf.tile(row[tf.newaxis], [tf.size(rows), 1]) for name, row in values.items()}

    def _normalize(self, embeddings: tf.Tensor) -> tf.Tensor:
        """The form that search compares, as `Quantizer.normalize` gives it."""
        if self.quantizer.similarity == SUBSPACE:
            return unit_slices(embeddings, self.codebooks.num_slices)
        return unit_slices(embeddings, 1) if self.quantizer.similarity == "cosine" else embeddings

    def _encode(self, items: tf.Tensor) -> Outputs:
        return {"codes": tf.cast(self.quantizer.encode(self._embed(items)), tf.int32)}

    def _decode(self, codes: tf.Tensor) -> Outputs:
        codes = check_codes(codes, self.codebooks.num_codewords)
        return {"embeddings": self.codebooks.decode(codes)}

    def _check_rows(self, items: tf.Tensor, **others: tf.Tensor) -> list[tf.Tensor]:
        return check_batches(**{self.items.name: items}, **others)

    def _search(self, embeddings: tf.Tensor, top_k: int | tf.Tensor, **options: Any) -> Neighbours:
        queries = Queries(embeddings, self.codebooks.make_tables(embeddings), **options)
        return self.storage.find(queries, top_k)

    def _find_best(self, embeddings: tf.Tensor, top_k: int | tf.Tensor) -> Neighbours:
        if tf.is_tensor(top_k) or top_k != self.top_k:
            return self._find_any(embeddings, tf.convert_to_tensor(top_k))
        return self._find(embeddings)

    def _without(self, found: Neighbours, is_out: tf.Tensor) -> Neighbours:
        """The first `top_k` of those that are not out; the others keep their order."""
        is_out |= found.positions < 0
        _, order = tf.math.top_k(-tf.cast(is_out, tf.int32), self.top_k)
        is_out, scores, positions = (
            tf.gather(values, order, batch_dims=1) for values in (is_out, *found)
        )
        return Neighbours(
            tf.where(is_out, FLOOR_SCORE, scores), tf.where(is_out, NO_POSITION, positions)
        )

    def _answer(self, found: Neighbours, has_matches: bool = True) -> Outputs:
        outputs = {"ids": self.ids.at(found.positions), "scores": found.scores}
        if self.labels is not None:
            outputs["labels"] = self.labels.at(found.positions)
        if self.score_threshold is not None and has_matches:
            outputs["matches"] = found.scores >= np.float32(self.score_threshold)
        return outputs


def _repeat(shard: Shard, rows: tf.Tensor) -> Outputs:
    """The same for each row: servers expect inputs, and those that merge requests a batch axis."""
    return {
        name: tf.fill(tf.shape(rows), tf.constant(value)) for name, value in shard._asdict().items()
    }


def _trace(function: Callable[..., Any], *inputs: tf.TensorSpec) -> Function:
    return tf.function(function, input_signature=inputs, autograph=False)
