"""What product quantizers have in common, with one level or several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.layers.codebooks import Cluster, mean_reconstructions, revive_codebooks
from tfpqn.layers.quantizer import Quantizer, Tensor, require_at_least
from tfpqn.ops import (
    assign_hard,
    assign_soft,
    build_lookup_tables,
    decode_codes,
    intra_normalize,
    normalize_vectors,
    rank_by_distance,
    reconstruct_soft,
    split_subvectors,
)

# Rows whose tables are in memory at a time.
ROWS_AT_ONCE = 1024
# Codewords hardly move after three.
SETTLING_ROUNDS = 5


class SubspaceQuantizer(Quantizer):
    """Base of the quantizers whose codebooks each cover one slice of the embedding.

    Args:
        num_subspaces: Number of slices; it must divide the embedding's length.
        num_codewords: Size of each codebook, at least 2.
        unit_codewords: Whether codes decode to codewords of unit length, in the first level.
        codebooks_initializer: Initializer of the codebooks, random directions by default.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self,
        num_subspaces: int,
        num_codewords: int,
        unit_codewords: bool,
        codebooks_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("num_subspaces", num_subspaces, 1)
        require_at_least("num_codewords", num_codewords, 2)
        self.num_subspaces = num_subspaces
        self.num_codewords = num_codewords
        self.unit_codewords = unit_codewords
        self.codebooks_initializer = keras.initializers.get(
            codebooks_initializer or keras.initializers.RandomNormal(stddev=1.0)
        )

    @property
    def code_length(self) -> int:  # type: ignore[override]
        return self.num_levels * self.num_subspaces

    @property
    def embedding_dim(self) -> int:
        self._require_built("embedding_dim")
        return self.num_subspaces * self.codebooks.shape[-1]

    def normalize(self, embeddings: Tensor) -> Tensor:
        return intra_normalize(ops.cast(embeddings, self.variable_dtype), self.num_subspaces)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_subspaces": self.num_subspaces,
            "num_codewords": self.num_codewords,
            "unit_codewords": self.unit_codewords,
            "codebooks_initializer": keras.initializers.serialize(self.codebooks_initializer),
        }

    def settle_codebooks(self, embeddings: np.ndarray, cluster: Cluster) -> None:
        if self.unit_codewords:
            raise ValueError(
                "settle_codebooks gives codewords a length: expected a layer with "
                "unit_codewords=False. Received: unit_codewords=True"
            )
        chunks = list(in_chunks(self._numpy_subvectors(embeddings)))
        # What training has seen, which the codewords are to stand for.
        soft = [ops.convert_to_numpy(self._soften_first_level(chunk)) for chunk in chunks]
        codebooks = np.array(ops.convert_to_numpy(self.codebooks))
        first_level = codebooks.reshape(-1, *codebooks.shape[-3:])[0]
        first_level[:] = ops.convert_to_numpy(normalize_vectors(first_level))
        for _ in range(SETTLING_ROUNDS):
            self.codebooks.assign(codebooks)
            codes = (ops.convert_to_numpy(self._code_first_level(chunk).codes) for chunk in chunks)
            first_level[:] = mean_reconstructions(first_level, zip(codes, soft, strict=True))
        self.codebooks.assign(codebooks)

    @property
    def _first_alpha(self) -> float:
        """Hardness of the soft assignment in the first level."""
        raise NotImplementedError

    def _first_codebooks(self) -> Tensor:
        """Codewords of the first level, `[num_subspaces, num_codewords, subvector_dim]`."""
        raise NotImplementedError

    def _decoded_first_codebooks(self) -> Tensor:
        """What codes of the first level decode to, `[num_subspaces, num_codewords, ..]`."""
        codebooks = self._first_codebooks()
        return normalize_vectors(codebooks) if self.unit_codewords else codebooks

    def _code_first_level(self, subvectors: Tensor) -> CodedLevel:
        """Code `[batch, num_subspaces, subvector_dim]` by the nearest codewords."""
        codebooks = self._decoded_first_codebooks()
        nearness = build_lookup_tables(subvectors, codebooks)
        # Between unit vectors the inner product ranks by distance already.
        if not self.unit_codewords:
            nearness = rank_by_distance(nearness, codebooks)
        codes = assign_hard(nearness)
        return CodedLevel(decode_codes(codes, codebooks), codes)

    def _soften_first_level(self, subvectors: Tensor) -> Tensor:
        """Soft reconstructions of `[batch, num_subspaces, subvector_dim]`, as in training."""
        unit = normalize_vectors(self._first_codebooks())
        similarities = build_lookup_tables(subvectors, unit)
        return reconstruct_soft(assign_soft(similarities, self._first_alpha), unit)

    def _revive_first_level(
        self, codebooks: np.ndarray, subvectors: np.ndarray, rng: np.random.Generator
    ) -> int:
        """Move the codewords of the first level's codebooks, changed in place, that none chooses.

        As training chooses, by direction: only what it chooses gets a gradient to speak of.
        """
        unit = normalize_vectors(ops.convert_to_tensor(codebooks))
        chunks = [
            ops.convert_to_numpy(assign_hard(build_lookup_tables(chunk, unit)))
            for chunk in in_chunks(subvectors)
        ]
        codes = np.concatenate(chunks)
        chosen = ops.convert_to_numpy(decode_codes(codes, unit))
        errors = np.square(subvectors - chosen).sum(axis=-1)
        # A zero subvector is far from every codeword, but no codeword could stand on it.
        errors *= np.square(subvectors).sum(axis=-1)
        return revive_codebooks(codebooks, subvectors, codes, errors, rng)

    def _variant(self) -> str:
        return "" if self.unit_codewords else ":own lengths"

    def _add_codebooks(
        self, embedding_dim: int | None, levels: tuple[int, ...], initializer: Any
    ) -> None:
        """Add the weight `[*levels, num_subspaces, num_codewords, subvector_dim]`."""
        if embedding_dim is None or embedding_dim % self.num_subspaces:
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={embedding_dim}, num_subspaces={self.num_subspaces}"
            )
        subvector_dim = embedding_dim // self.num_subspaces
        self.codebooks = self.add_weight(
            name="codebooks",
            shape=(*levels, self.num_subspaces, self.num_codewords, subvector_dim),
            initializer=initializer,
            autocast=False,
        )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: embedding_dim})
        self.built = True

    def _numpy_subvectors(self, embeddings: np.ndarray) -> np.ndarray:
        normalized = self.normalize(self._checked_embeddings(embeddings))
        return ops.convert_to_numpy(split_subvectors(normalized, self.num_subspaces))


class CodedLevel(NamedTuple):
    """What codes `[batch, num_subspaces]` decode to, `[batch, num_subspaces, subvector_dim]`, and
    the codes."""

    reconstruction: Tensor
    codes: Tensor


def in_chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all rows, `ROWS_AT_ONCE` at a time; of no rows one empty chunk."""
    for start in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]
