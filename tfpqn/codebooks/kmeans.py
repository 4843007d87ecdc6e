"""Codebooks from the cluster centres of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfpqn.codebooks.levels import (
    SHORTEST_CENTRE,
    Cluster,
    apply_in_chunks,
    read_levels,
    read_subvectors,
    write_levels,
)
from tfpqn.ops import normalize_vectors
from tfpqn.protocols import QuantizerLike


def fit_codebooks(quantizer: QuantizerLike, embeddings: np.ndarray, cluster: Cluster) -> None:
    """Set the codebooks of a quantizer to the cluster centres of embeddings.

    Level by level: those after the first are centres of what the levels before leave of the soft
    reconstructions.

    Args:
        quantizer: A quantizer of `tfpqn.layers`; it is built if it was not.
        embeddings: `[num_embeddings, embedding_dim]`.
        cluster: From vectors and a number to at most as many centres. With fewer centres than
            codewords the last codewords stay as they are.

    Raises:
        ValueError: The embeddings have the wrong shape, or are not finite; the codes hold norms.

    Reference:
        Jegou, Douze, Schmid: "Product Quantization for Nearest Neighbor Search", PAMI 2011.
    """
    subvectors = read_subvectors(quantizer, embeddings)
    product = quantizer.product_quantizer()
    if product.has_norms:
        raise ValueError(
            'Training takes several levels with similarity="subspace" or "dot"; fit_vectors fits '
            f"those whose codes hold norms. Received: similarity={product.similarity!r}"
        )
    levels = read_levels(product)
    # The mean of opposite vectors has no direction, and such a codeword no gradient for ever.
    shortest = SHORTEST_CENTRE if product.similarity == "subspace" else -1.0
    for subspace, codebook in enumerate(levels[0]):
        centres = cluster(subvectors[:, subspace], len(codebook))
        chosen = np.linalg.norm(centres, axis=-1) > shortest
        codebook[: len(centres)][chosen] = centres[chosen]
    if product.unit_codewords:
        levels[0] = ops.convert_to_numpy(normalize_vectors(levels[0]))
    write_levels(product, levels)
    fit_later_levels(product, subvectors, cluster)


def fit_later_levels(product: Any, subvectors: np.ndarray, cluster: Cluster) -> None:
    """Set the levels after the first to cluster centres of what codes leave to them."""
    levels = read_levels(product)
    if len(levels) == 1:
        return
    targets = apply_in_chunks(product.level_targets, subvectors)
    first = targets if product.soft_codes else subvectors
    left = targets - _decode_nearest(product, first, level=0)
    for level in range(1, len(levels)):
        for subspace, codebook in enumerate(levels[level]):
            centres = cluster(left[:, subspace], len(codebook))
            codebook[: len(centres)] = centres
        write_levels(product, levels)
        left = left - _decode_nearest(product, left, level)


def _decode_nearest(product: Any, subvectors: np.ndarray, level: int) -> np.ndarray:
    return apply_in_chunks(lambda chunk: product.choose(chunk, level).reconstruction, subvectors)
