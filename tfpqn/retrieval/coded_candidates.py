"""The codes of candidates and what they are searched with, as state of a Keras model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.codebooks.fitting import check_vectors, fit_vectors
from tfpqn.codebooks.levels import apply_in_chunks
from tfpqn.layers import Quantizer
from tfpqn.ops import adc_scores
from tfpqn.retrieval.candidate_ids import (
    NO_ID,
    are_strings,
    id_dtype,
    load_ids,
    missing_id,
    save_ids,
)

Tensor = Any

# Score where there is no candidate: finite, because JSON knows no infinity.
FLOOR_SCORE = float(np.finfo(np.float32).min)
# Position where there is no candidate, and never will be.
NO_POSITION = np.iinfo(np.int32).max


class CodedCandidates(keras.layers.Layer):
    """Candidates as codes: a state of the model that is replaced, and grows.

    A layer of its own, which Keras never builds: a layer that was built may get no new weights, and
    weights may not change their shape.

    Args:
        quantizer: A quantizer of whole vectors.
        has_rotation: Whether an orthogonal matrix turns the embeddings before they are coded.

    Attributes:
        num_candidates: Number of candidates.
        codes: Integers `[num_candidates, code_length]`; None before there are candidates.
        ids: `[num_candidates + 1]`, the last of which stands where there is no candidate; None if
            positions are the ids.
    """

    _refusal = "The file must hold the candidates of a QuantizedRetrieval. Received: a file without"

    def __init__(self, quantizer: Quantizer, has_rotation: bool) -> None:
        super().__init__(autocast=False, name="candidates")
        self.quantizer = quantizer
        self.has_rotation = has_rotation
        self.num_candidates = 0
        self.rotation: Any = None
        self.codes: Any = None
        self.ids: Any = None
        self.built = True

    def fit(self, embeddings: np.ndarray, seed: int) -> None:
        """Fit codebooks, and the rotation, to candidates `[num_candidates, embedding_dim]`."""
        # What is built for candidates that are refused could take no others.
        check_vectors(self.quantizer, embeddings)
        self._build_quantizer(embeddings.shape[1])
        with warnings.catch_warnings():
            # Few candidates are no harm to their own codes.
            warnings.filterwarnings("ignore", message="Codebooks of .* are fitted to")
            fit_vectors(self._as_network(), embeddings, seed=seed)

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        """Codes `[num_candidates, code_length]` by the codebooks that there are."""
        return apply_in_chunks(lambda rows: self.quantizer.encode(self._turn(rows)), embeddings)

    def put(self, codes: np.ndarray, ids: np.ndarray | None) -> None:
        """Hold these candidates in the place of those before."""
        is_growing = len(codes) > self.num_candidates
        # Other threads may search meanwhile: no code may be without an id.
        if is_growing:
            self._put_ids(ids)
        self._hold("codes", codes, self.quantizer.code_dtype)
        if not is_growing:
            self._put_ids(ids)
        self.num_candidates = len(codes)

    def _put_ids(self, ids: np.ndarray | None) -> None:
        if ids is None:
            self._drop("ids")
        else:
            dtype = "string" if are_strings(ids) else id_dtype()
            self._hold("ids", np.concatenate([ids, missing_id(ids)]), dtype)

    def held_codes(self) -> np.ndarray:
        return np.asarray(ops.convert_to_numpy(self.codes))

    def held_ids(self) -> np.ndarray | None:
        """The ids as they were put, or None if positions are the ids."""
        return None if self.ids is None else np.asarray(ops.convert_to_numpy(self.ids))[:-1]

    def find(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The best candidates of each query, best first.

        Returns:
            Scores float32 `[queries, k]` and positions int32 `[queries, k]`. Where there is no
            candidate, `FLOOR_SCORE` and `NO_POSITION`.
        """
        codes = ops.convert_to_tensor(self.codes)
        scores = adc_scores(self.quantizer.lookup_tables(self._turn(queries)), codes)
        num_candidates = ops.shape(codes)[0]
        # TensorFlow learns the number when the graph runs.
        is_known = isinstance(num_candidates, int)
        missing = max(k - num_candidates, 0) if is_known else ops.maximum(k - num_candidates, 0)
        scores = ops.pad(
            ops.cast(scores, "float32"), [[0, 0], [0, missing]], constant_values=FLOOR_SCORE
        )
        scores, positions = ops.top_k(scores, k)
        positions = ops.cast(positions, "int32")
        return scores, ops.where(ops.equal(scores, FLOOR_SCORE), NO_POSITION, positions)

    def ids_at(self, positions: Tensor) -> Tensor:
        """Ids of positions of any shape; -1 or the empty string where there is no candidate."""
        if self.ids is None:
            return ops.where(positions < NO_POSITION, positions, NO_ID)
        ids = ops.convert_to_tensor(self.ids)
        return ops.take(ids, ops.minimum(positions, ops.shape(ids)[0] - 1), axis=0)

    def are_excluded(self, positions: Tensor, exclusions: Tensor) -> Tensor:
        """Whether candidates `[queries, n]` have one of the ids `[queries, num_excluded]`."""
        ids = self.ids_at(positions)
        if keras.backend.standardize_dtype(ids.dtype) != "string":
            # The widest that the backend has: a large number must not become the id of another
            # candidate.
            ids, exclusions = ops.cast(ids, id_dtype()), ops.cast(exclusions, id_dtype())
        return ops.any(ids[:, :, None] == exclusions[:, None, :], axis=-1)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        store["num_candidates"] = np.array(self.num_candidates)
        if not self.num_candidates:
            return
        store["embedding_dim"] = np.array(self.quantizer.embedding_dim)
        store["codes"] = self.held_codes()
        if self.rotation is not None:
            store["rotation"] = ops.convert_to_numpy(self.rotation)
        ids = self.held_ids()
        if ids is not None:
            save_ids(store, ids)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        if "num_candidates" not in store:
            # After a refusal Keras asks again with an empty store, and shows the last error.
            raise ValueError(self._refusal)
        try:
            self._load(store)
        except ValueError as error:
            self._refusal = str(error)
            raise

    def _load(self, store: Mapping[str, Any]) -> None:
        if not int(np.asarray(store["num_candidates"])):
            self._drop("codes")
            self._drop("ids")
            self.num_candidates = 0
            return
        codes, ids = np.asarray(store["codes"]), load_ids(store)
        misfit = self._find_misfit(codes, ids, "rotation" in store)
        if misfit:
            raise ValueError(misfit)
        # Keras loads the codebooks next.
        self._build_quantizer(int(np.asarray(store["embedding_dim"])))
        if self.rotation is not None:
            self.rotation.assign(np.asarray(store["rotation"]))
        self.put(codes, ids)

    def _find_misfit(self, codes: np.ndarray, ids: np.ndarray | None, has_rotation: bool) -> str:
        """Why a file's candidates are not such as this layer codes; empty if they are."""
        length, largest = self.quantizer.code_length, self.quantizer.num_codewords - 1
        fits = codes.ndim == 2 and codes.shape[1] == length and codes.dtype.kind in "iu"
        fits = fits and codes.min(initial=0) >= 0 and codes.max(initial=0) <= largest
        if not fits or (ids is not None and len(ids) != len(codes)):
            return (
                f"The file's codes must be [num_candidates, {length}], integers of at most "
                f"{largest}, with an id each. Received: {codes.dtype} {codes.shape}, "
                f"{codes.min(initial=0)} .. {codes.max(initial=0)}, with "
                f"{'no' if ids is None else len(ids)} ids"
            )
        if has_rotation != self.has_rotation:
            return (
                f"The file must be of a layer with rotation={self.has_rotation}. Received: one "
                f"with rotation={has_rotation}"
            )
        return ""

    def _build_quantizer(self, embedding_dim: int) -> None:
        if not self.quantizer.built:
            self.quantizer.build((None, embedding_dim))
        # Codes belong to these codebooks: none may train.
        self.quantizer.trainable = False
        if self.has_rotation and self.rotation is None:
            self.rotation = self.add_weight(
                name="rotation",
                shape=(embedding_dim, embedding_dim),
                initializer="identity",
                trainable=False,
                autocast=False,
            )

    def _as_network(self) -> Any:
        """What fitting asks of a network."""
        rotation = None if self.rotation is None else SimpleNamespace(kernel=self.rotation)
        return SimpleNamespace(quantizer=self.quantizer, rotation=rotation)

    def _turn(self, embeddings: Tensor) -> Tensor:
        embeddings = ops.cast(embeddings, self.variable_dtype)
        return embeddings if self.rotation is None else ops.matmul(embeddings, self.rotation)

    def _hold(self, name: str, values: np.ndarray, dtype: str) -> None:
        """Set the weight of that name, whatever shape it had."""
        held = getattr(self, name)
        if held is not None and keras.backend.standardize_dtype(held.dtype) != dtype:
            self._drop(name)
            held = None
        if keras.backend.backend() == "tensorflow":
            # A variable of TensorFlow may grow under the graphs that read it.
            if held is None:
                held = _make_growing(values, dtype)
                setattr(self, name, held)
            held.assign(values)
        elif held is not None and tuple(held.shape) == values.shape:
            held.assign(values)
        else:
            self._drop(name)
            weight = self.add_weight(name=name, shape=values.shape, dtype=dtype, trainable=False)
            weight.assign(values)
            setattr(self, name, weight)

    def _drop(self, name: str) -> None:
        """Let go of the weight of that name, if there is one."""
        if getattr(self, name) is not None:
            delattr(self, name)
            setattr(self, name, None)


def _make_growing(values: np.ndarray, dtype: str) -> Any:
    """A variable of TensorFlow whose number of rows may change."""
    import tensorflow as tf

    shape = tf.TensorShape([None, *values.shape[1:]])
    return tf.Variable(tf.constant(values, dtype), trainable=False, shape=shape)
