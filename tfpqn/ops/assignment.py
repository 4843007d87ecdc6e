"""Soft and hard assignment of subvectors to codewords."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def assign_soft(similarities: Tensor, alpha: float) -> Tensor:
    """Soft assignment of unit subvectors to unit codewords.

    The paper's weights are `softmax_k(-alpha * ||x_m - c_mk||^2)`. Between unit vectors the squared
    distance is `2 - 2 <x_m, c_mk>`, which leaves `softmax_k(2 * alpha * <x_m, c_mk>)`.

    Args:
        similarities: Inner products `[..., num_codewords]`.
        alpha: Hardness; the larger, the nearer to hard assignment.

    Returns:
        Weights `[..., num_codewords]`, each row summing to 1.

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018.
    """
    return ops.softmax(2.0 * alpha * similarities, axis=-1)


def rank_by_distance(similarities: Tensor, codebooks: Tensor) -> Tensor:
    """Inner products turned into a measure that is largest for the nearest codeword.

    `<x_m, c_mk> - ||c_mk||^2 / 2` is minus half the squared distance, up to a term in `x_m` alone.
    So `assign_hard` of it finds the nearest codeword, whatever the codewords' lengths, and
    `assign_soft` of it gives `softmax_k(-alpha * ||x_m - c_mk||^2)`.

    Args:
        similarities: Inner products `[batch, num_subspaces, num_codewords]`.
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`.

    Returns:
        `[batch, num_subspaces, num_codewords]`.
    """
    return ops.subtract(similarities, 0.5 * ops.sum(ops.square(codebooks), axis=-1))


def assign_hard(similarities: Tensor) -> Tensor:
    """Position of the most similar codeword; the first of equals.

    Args:
        similarities: Inner products `[..., num_codewords]`.

    Returns:
        int32 tensor `[...]`.
    """
    return ops.cast(ops.argmax(similarities, axis=-1), "int32")


def reconstruct_soft(assignments: Tensor, codebooks: Tensor) -> Tensor:
    """Weighted sum of codewords. It is not normalised again, as in the paper.

    Args:
        assignments: Weights `[batch, num_subspaces, num_codewords]`.
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`.

    Returns:
        Subvectors `[batch, num_subspaces, subvector_dim]`.
    """
    return ops.einsum("bmk,mkd->bmd", assignments, codebooks)
