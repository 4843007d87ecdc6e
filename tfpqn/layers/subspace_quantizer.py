"""What product quantizers have in common, with one level or several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.layers.codebooks import Cluster, mean_reconstructions
from tfpqn.layers.quantizer import Quantizer, Tensor, require_at_least
from tfpqn.ops import (
    assign_hard,
    assign_soft,
    build_lookup_tables,
    intra_normalize,
    normalize_vectors,
    reconstruct_soft,
    split_subvectors,
)

# Rows whose tables are in memory at a time.
ROWS_AT_ONCE = 1024


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
        subvectors = self._numpy_subvectors(embeddings)
        codebooks = np.array(ops.convert_to_numpy(self.codebooks))
        first_level = codebooks.reshape(-1, *codebooks.shape[-3:])[0]
        unit = normalize_vectors(ops.convert_to_tensor(first_level))

        def quantize(chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            tables = build_lookup_tables(ops.convert_to_tensor(chunk), unit)
            soft = reconstruct_soft(assign_soft(tables, self._first_alpha), unit)
            return ops.convert_to_numpy(assign_hard(tables)), ops.convert_to_numpy(soft)

        first_level[:] = mean_reconstructions(
            ops.convert_to_numpy(unit), map(quantize, in_chunks(subvectors))
        )
        self.codebooks.assign(codebooks)

    @property
    def _first_alpha(self) -> float:
        """Hardness of the soft assignment in the first level."""
        raise NotImplementedError

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


def in_chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all rows, `ROWS_AT_ONCE` at a time; of no rows one empty chunk."""
    for start in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]
