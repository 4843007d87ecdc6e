"""What scores compare: how they follow from inner products with reconstructions."""

from __future__ import annotations

from typing import Any, NamedTuple


class Similarity(NamedTuple):
    """A score of a query q and a reconstruction x, as a sum of terms.

    `scale * <q, x> - norm_weight * ||x||^2 + constant - norm_weight * ||q||^2`

    Attributes:
        scale: Factor of the inner product.
        norm_weight: Factor of the squared lengths; 0 where a score has none.
        constant: What every score has.
    """

    scale: float = 1.0
    norm_weight: float = 0.0
    constant: float = 0.0


# What is compared slice by slice, as in training; the others compare whole vectors.
SUBSPACE = "subspace"
# Cosine goes by the distance of unit vectors: reconstructions are shorter than what they stand for,
# the more so the worse they are, and an inner product would rank by that.
SIMILARITIES = {
    SUBSPACE: Similarity(),
    "cosine": Similarity(norm_weight=0.5, constant=1.0),
    "dot": Similarity(),
    "l2": Similarity(scale=2.0, norm_weight=1.0),
}


def require_similarity(similarity: Any, unit_codewords: bool) -> None:
    """Raises ValueError unless there is such a similarity, for codewords of such lengths."""
    if similarity not in SIMILARITIES:
        raise ValueError(
            f"similarity must be one of {', '.join(SIMILARITIES)}. Received: "
            f"similarity={similarity!r}"
        )
    if similarity != SUBSPACE and unit_codewords:
        raise ValueError(
            f"unit_codewords must be False with similarity={similarity!r}: its codewords are as "
            "long as the vectors that they stand for. Received: unit_codewords=True"
        )
