"""What scores compare: how they follow from inner products with reconstructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfpqn.ops import intra_normalize, normalize_vectors

Tensor = Any


class Similarity(NamedTuple):
    """A score of a query q and a reconstruction x, as a sum of terms.

    `scale * <q, x> - norm_weight * ||x||^2 + constant - norm_weight * ||q||^2`

    Attributes:
        normalize: From embeddings `[batch, embedding_dim]` and `num_subspaces` to the form of them
            that scores compare.
        scale: Factor of the inner product.
        norm_weight: Factor of the squared lengths; 0 where a score has none.
        constant: What every score has.
    """

    normalize: Callable[[Tensor, int], Tensor]
    scale: float = 1.0
    norm_weight: float = 0.0
    constant: float = 0.0

    def query_terms(self, queries: Tensor) -> Tensor:
        """What all scores of a query have in common, `[queries]`."""
        return self.constant - self.norm_weight * ops.sum(ops.square(queries), axis=-1)


class TableConstants(NamedTuple):
    """What lookup tables are made of, beside the queries.

    With `parts = normalized_queries.reshape(-1, num_subspaces, subvector_dim)`, the table of
    position p is `scale * parts[:, slices[p]] @ codebooks[p].T + offsets[p]`. To position 0 add
    `constant - norm_weight * ||query||^2`, which changes scores, but not their order.

    Attributes:
        codebooks: float32 `[code_length, num_codewords, subvector_dim]`; zeros at a position that
            holds norms.
        slices: int32 `[code_length]`, the slice of the query that each position meets.
        offsets: float32 `[code_length, num_codewords]`.
        scale, norm_weight, constant: As of `Similarity`.
    """

    codebooks: np.ndarray
    slices: np.ndarray
    offsets: np.ndarray
    scale: float
    norm_weight: float
    constant: float


def _as_they_are(embeddings: Tensor, num_subspaces: int) -> Tensor:
    return embeddings


def _to_unit_length(embeddings: Tensor, num_subspaces: int) -> Tensor:
    return normalize_vectors(embeddings)


# Cosine goes by the distance of unit vectors: reconstructions are shorter than what they stand for,
# the more so the worse they are, and an inner product would rank by that.
SIMILARITIES = {
    "subspace": Similarity(intra_normalize),
    "cosine": Similarity(_to_unit_length, norm_weight=0.5, constant=1.0),
    "dot": Similarity(_as_they_are),
    "l2": Similarity(_as_they_are, scale=2.0, norm_weight=1.0),
}


def require_similarity(similarity: Any, unit_codewords: bool) -> None:
    """Raises ValueError unless there is such a similarity, for codewords of such lengths."""
    if similarity not in SIMILARITIES:
        raise ValueError(
            f"similarity must be one of {', '.join(SIMILARITIES)}. Received: "
            f"similarity={similarity!r}"
        )
    if similarity != "subspace" and unit_codewords:
        raise ValueError(
            f"unit_codewords must be False with similarity={similarity!r}: its codewords are as "
            "long as the vectors that they stand for. Received: unit_codewords=True"
        )
