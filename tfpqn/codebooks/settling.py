"""Codebooks fitted, once training has ended, to what training has ranked."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfpqn.codebooks.kmeans import fit_later_levels
from tfpqn.codebooks.levels import (
    SHORTEST_CENTRE,
    Cluster,
    apply_in_chunks,
    read_levels,
    read_subvectors,
    soften,
    write_levels,
)
from tfpqn.protocols import QuantizerLike

# Codewords hardly move after three.
SETTLING_ROUNDS = 5


def settle_codebooks(quantizer: QuantizerLike, embeddings: np.ndarray, cluster: Cluster) -> None:
    """Fit what codes decode to to the soft reconstructions of training; once, after training.

    Codes then stand for what training has ranked (docs/method.md). Without `unit_codewords`, each
    codeword of the first level becomes the mean soft reconstruction of the embeddings that are
    nearest to it, in a few rounds of k-means that begin with the trained codewords. With
    `soft_codes` it then becomes the mean of the soft reconstructions that are nearest to it, which
    are made of the codewords found first. Further levels become cluster centres of what codes leave
    of the soft reconstructions; for encoding by beam search, they are then fitted together.

    Args:
        quantizer: A quantizer of `tfpqn.layers`.
        embeddings: `[num_embeddings, embedding_dim]`.
        cluster: As of `fit_codebooks`.

    Raises:
        ValueError: There is nothing to settle, or the embeddings have the wrong shape or are not
            finite.
    """
    product = quantizer.product_quantizer()
    if product.similarity != "subspace":
        raise ValueError(
            'settle_codebooks is for similarity="subspace": codes of others stand for the vectors '
            f"themselves. Received: similarity={product.similarity!r}"
        )
    if product.unit_codewords and product.num_levels == 1:
        raise ValueError(
            "settle_codebooks gives codewords a length: expected a layer with "
            "unit_codewords=False, or several levels. Received: unit_codewords=True and one level"
        )
    subvectors = read_subvectors(quantizer, embeddings)
    if not product.unit_codewords:
        _settle_first_level(product, subvectors)
    fit_later_levels(product, subvectors, cluster)
    if product.num_levels > 1 and product.beam_size > 1:
        _settle_later_levels_together(product, subvectors)


def _settle_first_level(product: Any, subvectors: np.ndarray) -> None:
    levels = read_levels(product)
    levels[0] = ops.convert_to_numpy(product.unit_codebooks())
    write_levels(product, levels)
    for by_soft in (False, True)[: 1 + product.soft_codes]:
        # What training has seen, which the codewords are to stand for.
        soft = soften(product, subvectors)
        targets = soft if by_soft else subvectors
        for _ in range(SETTLING_ROUNDS):
            codes = apply_in_chunks(lambda chunk: product.choose(chunk).codes, targets)
            levels[0] = move_to_means(levels[0], codes, soft)
            write_levels(product, levels)


def _settle_later_levels_together(product: Any, subvectors: np.ndarray) -> None:
    """By turns: codes by beam, then codewords of the levels after the first.

    The first stays: what all stand for is made of its codewords, and would move with them.
    """
    targets = soften(product, subvectors)
    levels = read_levels(product)
    first = levels[0].copy()
    levels[0] = ops.convert_to_numpy(product.decoded_codebooks())
    for _ in range(SETTLING_ROUNDS):
        codes = apply_in_chunks(
            lambda chunk: ops.stack(product.choose_by_beam(chunk), axis=1), targets
        )
        refit_levels(levels, codes, targets)
        write_levels(product, np.stack([first, *levels[1:]]))


def refit_levels(levels: np.ndarray, codes: np.ndarray, targets: np.ndarray) -> None:
    """Let the codewords of the levels become the means of what all others leave to them.

    Level by level, each after those before it have moved; the first level stays as it is.

    Args:
        levels: What codes decode to, `[num_levels, num_subspaces, num_codewords, subvector_dim]`,
            changed in place; a codeword that nothing chose stays as it is.
        codes: `[batch, num_levels, num_subspaces]`.
        targets: What the sums stand for, `[batch, num_subspaces, subvector_dim]`.
    """
    subspaces = np.arange(levels.shape[1])
    for level in range(1, len(levels)):
        others = sum(
            levels[other][subspaces, codes[:, other]]
            for other in range(len(levels))
            if other != level
        )
        levels[level] = move_to_means(
            levels[level], codes[:, level], targets - others, needs_direction=False
        )


def move_to_means(
    codebooks: np.ndarray,
    codes: np.ndarray,
    subvectors: np.ndarray,
    *,
    needs_direction: bool = True,
) -> np.ndarray:
    """Codebooks whose codewords are the means of what chose them.

    Args:
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`; a codeword that nothing chose
            stays as it is.
        codes: `[batch, num_subspaces]`.
        subvectors: `[batch, num_subspaces, subvector_dim]`.
        needs_direction: Whether a codeword whose subvectors cancel out stays too.

    Returns:
        Array like `codebooks`.
    """
    sums = np.zeros(codebooks.shape, np.float64)
    counts = np.zeros(codebooks.shape[:2], np.int64)
    subspaces = np.arange(len(codebooks))
    np.add.at(sums, (subspaces, codes), subvectors)
    np.add.at(counts, (subspaces, codes), 1)
    means = sums / np.maximum(counts, 1)[..., None]
    moves = counts[..., None] > 0
    if needs_direction:
        moves &= np.linalg.norm(means, axis=-1, keepdims=True) > SHORTEST_CENTRE
    return np.where(moves, means, codebooks)
