"""Top-k retrieval over coded candidates, in the shape of the recommenders' brute-force layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.layers import ProductQuantization, Quantizer
from tfpqn.layers.quantizer import require_at_least
from tfpqn.retrieval.candidate_arrays import join_batches, read_embeddings
from tfpqn.retrieval.candidate_ids import kind_of_ids, read_ids, require_held
from tfpqn.retrieval.coded_candidates import FLOOR_SCORE, NO_POSITION, CodedCandidates

Tensor = Any


@keras.saving.register_keras_serializable(package="tfpqn")
class QuantizedRetrieval(keras.Model):
    """The best candidates of queries, from codes of a few bytes a candidate.

    It takes the place of `keras_rs.layers.BruteForceRetrieval` and of
    `tfrs.layers.factorized_top_k.BruteForce`. Candidates are coded by codebooks that are fitted to
    them; scores are inner products of the query with what the codes stand for, so they and the
    order are approximate. Codebooks, codes and ids are saved with the model.

    Codes do not follow the candidate tower: call `update_candidates` after training. A layer whose
    candidates were given may be given more by `add`, and others by `index`; models that were
    compiled before find the new ones.

    A call takes memory for the scores of all queries and candidates. For collections of more than
    some millions see `tfpqn.export.Searcher`.

    Args:
        candidate_embeddings: `[num_candidates, embedding_dim]`; if None, call one of
            `update_candidates`, `index` and `index_from_dataset` before the layer is used.
        candidate_ids: Integers or strings `[num_candidates]`, which need not be unique; positions
            if None. Strings need TensorFlow as the backend, and JAX takes 32 bits.
        k: Number of candidates to find.
        return_scores: Whether a call returns scores and ids, or the ids alone.
        query_model: Model or layer from the features of queries to their embeddings; if None, the
            layer is called on embeddings. It may be of Keras 2 (`tf_keras`), as the towers of TFRS
            are: then `export` writes it, and `save` does not.
        quantizer: A quantizer of `tfpqn.layers` with `similarity="dot"`, `"cosine"` or `"l2"`. None
            takes product quantization with 8 subspaces of 256 codewords: 8 bytes a candidate, for
            inner products.
        rotation: Whether an orthogonal matrix, fitted to the candidates, turns the embeddings
            before they are coded. It finds more, and takes longer to fit.
        seed: Seed of the fit.
        **kwargs: Passed to `keras.Model`.

    Call arguments:
        queries: Float tensor `[queries, embedding_dim]`, or the features that `query_model` takes.
        k: Number of candidates in place of the layer's own.

    Returns:
        Scores float32 `[queries, k]`, best first, and ids `[queries, k]`; the ids alone without
        `return_scores`. Ids are int64 (int32 on JAX) or strings, positions int32. Equal scores come
        in ascending position (on PyTorch in any order). With fewer candidates than `k`, the last
        ids are -1 or the empty string, with the smallest finite float32 as their score.

    Raises:
        RuntimeError: It is called before it was given candidates.
        ValueError: Queries have the wrong shape, or an argument is out of range.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> movies = rng.normal(size=(1000, 32)).astype("float32")
    >>> retrieval = tfpqn.retrieval.QuantizedRetrieval(movies, k=5)
    >>> scores, ids = retrieval(movies[:2])
    >>> tuple(ids.shape)
    (2, 5)
    """

    def __init__(
        self,
        candidate_embeddings: Any = None,
        candidate_ids: Any = None,
        k: int = 10,
        return_scores: bool = True,
        *,
        query_model: Callable[[Any], Any] | None = None,
        quantizer: Quantizer | None = None,
        rotation: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        # Half precision would merge scores: queries come as they are.
        super().__init__(autocast=False, **kwargs)
        require_at_least("k", k, 1)
        if query_model is not None and not callable(query_model):
            raise TypeError(
                f"query_model must be a model, layer or function. Received: {type(query_model)}"
            )
        if quantizer is not None and not isinstance(quantizer, Quantizer):
            raise TypeError(f"quantizer must be of tfpqn.layers. Received: {type(quantizer)}")
        self.k = k
        self.return_scores = return_scores
        self.query_model = query_model
        self.has_rotation = rotation
        self.seed = seed
        quantizer = quantizer or ProductQuantization(8, 256, similarity="dot")
        self.candidates = CodedCandidates(quantizer, rotation)
        # A query model builds itself.
        self.built = query_model is not None
        if candidate_embeddings is not None:
            self.index(candidate_embeddings, candidate_ids)
        elif candidate_ids is not None:
            raise ValueError(
                "candidate_ids need candidate_embeddings. Received: candidate_ids alone"
            )

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer that codes the candidates."""
        return self.candidates.quantizer

    @property
    def num_candidates(self) -> int:
        """Number of candidates; 0 before the first are given."""
        return self.candidates.num_candidates

    def index(self, candidates: Any, identifiers: Any = None) -> QuantizedRetrieval:
        """Replace all candidates: fit codebooks to these, and code them.

        Args:
            candidates: Float array or tensor `[num_candidates, embedding_dim]`.
            identifiers: Integers or strings `[num_candidates]`; positions if None.

        Returns:
            The layer itself.

        Raises:
            ValueError: The candidates are none, not finite, or of the wrong shape; the ids are of
                another number or kind than before.
        """
        embeddings, ids = self._read(candidates, identifiers)
        self.candidates.fit(embeddings, self.seed)
        self.candidates.put(self.candidates.encode(embeddings), ids)
        if not self.built:
            # So that it can be saved and exported before it was called.
            self.build((None, embeddings.shape[1]))
        return self

    def index_from_dataset(self, candidates: Iterable[Any]) -> QuantizedRetrieval:
        """`index` of a `tf.data.Dataset`, or another iterable, of batches.

        Args:
            candidates: Batches of embeddings `[batch, embedding_dim]`, or pairs of ids `[batch]`
                and embeddings.
        """
        return self.index(*join_batches(candidates))

    def update_candidates(self, candidate_embeddings: Any, candidate_ids: Any = None) -> None:
        """Replace all candidates, as `index` does; without ids, those of before stay.

        Args:
            candidate_embeddings: `[num_candidates, embedding_dim]`.
            candidate_ids: Ids `[num_candidates]`, of the kind that the layer has.
        """
        held = self.candidates.held_ids() if candidate_ids is None else candidate_ids
        self.index(candidate_embeddings, held)

    def add(self, candidate_embeddings: Any, candidate_ids: Any = None) -> None:
        """Code more candidates by the codebooks that there are, behind the others.

        Where many are added, or others than those that the codebooks were fitted to, `index` of all
        of them finds more.

        Args:
            candidate_embeddings: `[num_added, embedding_dim]`.
            candidate_ids: Ids `[num_added]` that no candidate has yet, if the others have ids;
                without, positions go on.

        Raises:
            RuntimeError: There are no candidates yet.
            ValueError: As `index`; or an id is there already.
        """
        self._require_candidates()
        embeddings, ids = self._read(candidate_embeddings, candidate_ids)
        held = self.candidates.held_ids()
        if held is not None and ids is not None:
            known = sorted(set(held.tolist()).intersection(ids.tolist()))
            if known:
                raise ValueError(
                    "candidate_ids must be new; update_candidates replaces candidates. Received: "
                    f"{len(known)} that are there already, such as {known[0]!r}"
                )
            ids = np.concatenate([held, ids])
        codes = [self.candidates.held_codes(), self.candidates.encode(embeddings)]
        self.candidates.put(np.concatenate(codes), ids)

    def build(self, input_shape: Any) -> None:
        """Nothing is made here: candidates bring their weights, whatever their number."""

    def call(self, queries: Any, k: int | None = None) -> Any:
        k = self._read_k(k)
        scores, positions = self.candidates.find(self._embed(queries), k)
        ids = self.candidates.ids_at(positions)
        return (scores, ids) if self.return_scores else ids

    def query_with_exclusions(
        self, queries: Any, exclusions: Any, k: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As a call, without the candidates whose ids a query excludes.

        Each excluded id takes the place of one candidate in the search: where several candidates
        share an id that is excluded, fewer than `k` may be found.

        Args:
            queries: As those of a call.
            exclusions: Ids `[queries, num_excluded]`.
            k: Number of candidates in place of the layer's own.

        Returns:
            Scores float32 `[queries, k]` and ids `[queries, k]`, as a call returns them.

        Raises:
            RuntimeError, ValueError: As a call; or exclusions are no such ids.
        """
        k = self._read_k(k)
        queries = self._embed(queries)
        exclusions = self._read_exclusions(exclusions, queries.shape[0])
        scores, positions = self.candidates.find(queries, k + ops.shape(exclusions)[1])
        is_excluded = self.candidates.are_excluded(positions, exclusions)
        scores = ops.where(is_excluded, FLOOR_SCORE, scores)
        positions = ops.where(is_excluded, NO_POSITION, positions)
        scores, order = ops.top_k(scores, k)
        return scores, self.candidates.ids_at(ops.take_along_axis(positions, order, axis=1))

    def compute_output_spec(self, queries: Any, k: int | None = None) -> Any:
        num_queries = keras.tree.flatten(queries)[0].shape[0]
        shape = (num_queries, self.k if k is None else k)
        ids = keras.KerasTensor(shape, dtype=self._output_id_dtype())
        return (keras.KerasTensor(shape, dtype="float32"), ids) if self.return_scores else ids

    def get_config(self) -> dict[str, Any]:
        if not isinstance(self.query_model, keras.layers.Layer | None):
            raise TypeError(
                "A .keras file needs a query_model of Keras 3; export writes the others. "
                f"Received: {type(self.query_model)}"
            )
        return {
            **super().get_config(),
            "k": self.k,
            "return_scores": self.return_scores,
            "query_model": keras.saving.serialize_keras_object(self.query_model),
            "quantizer": keras.saving.serialize_keras_object(self.quantizer),
            "rotation": self.has_rotation,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizedRetrieval:
        for name in ("query_model", "quantizer"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

    def _embed(self, queries: Any) -> Tensor:
        """Embeddings `[queries, embedding_dim]` of queries; checked."""
        self._require_candidates()
        if self.query_model is not None:
            queries = self.query_model(queries)
        queries = ops.convert_to_tensor(queries)
        self._require_width("queries", queries.shape)
        return queries

    def _read_exclusions(self, exclusions: Any, num_queries: int | None) -> Tensor:
        """Excluded ids `[queries, num_excluded]`, or one row for all queries; checked."""
        if isinstance(exclusions, np.ndarray) and exclusions.dtype.kind in "iu":
            # Cut by the backend, a large number could become the id of a candidate.
            exclusions = require_held(exclusions, "exclusions").astype(np.int64)
        exclusions = ops.convert_to_tensor(exclusions)
        dtype, shape = keras.backend.standardize_dtype(exclusions.dtype), tuple(exclusions.shape)
        kind = "strings" if self._output_id_dtype() == "string" else "integers"
        is_kind = dtype == "string" if kind == "strings" else "int" in dtype or 0 in shape
        is_rows = len(shape) == 2 and (num_queries is None or shape[0] in (None, 1, num_queries))
        if not is_kind or not is_rows:
            raise ValueError(
                f"exclusions must be ids [queries, num_excluded], {kind}, of {num_queries} "
                f"queries. Received: {dtype} {shape}"
            )
        return exclusions

    def _require_width(self, name: str, shape: Any) -> None:
        embedding_dim = self.quantizer.embedding_dim
        if len(shape) != 2 or shape[1] != embedding_dim:
            raise ValueError(
                f"{name} must be embeddings [rows, {embedding_dim}], as long as those that the "
                f"codebooks were fitted to. Received: {tuple(shape)}"
            )

    def _read(self, embeddings: Any, ids: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Candidates as arrays; checked."""
        embeddings = read_embeddings(embeddings)
        ids = None if ids is None else read_ids(ids, len(embeddings))
        if self.num_candidates:
            self._require_width("candidate_embeddings", embeddings.shape)
            kinds = kind_of_ids(self.candidates.held_ids()), kind_of_ids(ids)
            if kinds[0] != kinds[1]:
                raise ValueError(
                    f"candidate_ids must be of the kind that the layer has, {kinds[0]}; make "
                    f"another layer for others. Received: {kinds[1]}"
                )
        return embeddings, ids

    def _read_k(self, k: int | None) -> int:
        if k is None:
            return self.k
        if ops.is_tensor(k):
            raise ValueError(
                "k must be a Python integer; Keras makes a tensor of one of NumPy. Received: a "
                "tensor"
            )
        require_at_least("k", k, 1)
        return int(k)

    def _require_candidates(self) -> None:
        if not self.num_candidates:
            raise RuntimeError(
                f"{type(self).__name__} has no candidates yet. Expected a call of "
                "update_candidates, index or index_from_dataset first"
            )

    def _output_id_dtype(self) -> str:
        ids = self.candidates.ids
        return "int32" if ids is None else keras.backend.standardize_dtype(ids.dtype)
