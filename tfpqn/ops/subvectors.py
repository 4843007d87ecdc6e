"""Cutting embeddings into subvectors, and bringing vectors to unit length."""

from __future__ import annotations

from typing import Any

from keras import backend, ops

Tensor = Any

# Largest absolute value under which a vector passes no gradient when it is brought to unit length.
SHORTEST = 1e-6


def split_subvectors(embeddings: Tensor, num_subspaces: int) -> Tensor:
    """Cut each embedding into `num_subspaces` equal slices.

    Args:
        embeddings: Float tensor `[..., embedding_dim]`.
        num_subspaces: Number of slices.

    Returns:
        Tensor `[..., num_subspaces, subvector_dim]`.

    Raises:
        ValueError: `embedding_dim` is not a multiple of `num_subspaces`.
    """
    embedding_dim = embeddings.shape[-1]
    if embedding_dim is None or embedding_dim % num_subspaces:
        raise ValueError(
            "embedding_dim must be a multiple of num_subspaces. "
            f"Received: embedding_dim={embedding_dim}, num_subspaces={num_subspaces}"
        )
    leading = ops.shape(embeddings)[:-1]
    return ops.reshape(embeddings, (*leading, num_subspaces, embedding_dim // num_subspaces))


def merge_subvectors(subvectors: Tensor) -> Tensor:
    """Concatenate subvectors, the inverse of `split_subvectors`.

    Args:
        subvectors: Tensor `[..., num_subspaces, subvector_dim]`.

    Returns:
        Tensor `[..., num_subspaces * subvector_dim]`.
    """
    *_, num_subspaces, subvector_dim = subvectors.shape
    leading = ops.shape(subvectors)[:-2]
    return ops.reshape(subvectors, (*leading, num_subspaces * subvector_dim))


def normalize_vectors(vectors: Tensor) -> Tensor:
    """Scale each vector along the last axis to unit length, however short or long it is.

    The zero vector stays zero. A vector whose values are all below `SHORTEST` passes a zero
    gradient: the true one grows as the vector shrinks, and would become infinite. A vector that
    holds NaN or infinity becomes NaN.

    Args:
        vectors: Float tensor `[..., dim]`.

    Returns:
        Tensor of the same shape and dtype; each vector has length 1, or 0.
    """
    vectors = ops.convert_to_tensor(vectors)
    dtype = backend.standardize_dtype(vectors.dtype)
    # Half precision squares few numbers.
    vectors = ops.cast(vectors, backend.result_type(dtype, "float32"))
    # The initial value is for batches without rows, whose largest value Keras refuses.
    largest = ops.max(ops.abs(ops.stop_gradient(vectors)), axis=-1, keepdims=True, initial=0.0)
    scaled = vectors * _factor_for_safe_squares(largest)
    squared_length = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
    # Not the other way round: NaN compares false, and must not pass for zero.
    safe_length = ops.where(squared_length <= 0, ops.ones_like(largest), squared_length)
    units = scaled * ops.rsqrt(safe_length)
    units = ops.where(largest < SHORTEST, ops.stop_gradient(units), units)
    return ops.cast(units, backend.result_type(dtype, float))


def _factor_for_safe_squares(largest: Tensor) -> Tensor:
    """What brings values up to `largest` where their squares neither overflow nor vanish.

    A power of two, so that no value is rounded; 1 for the lengths that networks have.
    """
    one = ops.ones_like(largest)
    factor = ops.where(largest < 2.0**-40, 2.0**92 * one, one)
    return ops.where(largest > 2.0**40, 2.0**-80 * one, factor)


def intra_normalize(embeddings: Tensor, num_subspaces: int) -> Tensor:
    """Scale each subvector of each embedding to unit length (Yu et al., ECCV 2018, section 3).

    Args:
        embeddings: Float tensor `[..., embedding_dim]`.
        num_subspaces: Number of slices that are normalised each for itself.

    Returns:
        Tensor `[..., embedding_dim]`.

    Raises:
        ValueError: `embedding_dim` is not a multiple of `num_subspaces`.
    """
    return merge_subvectors(normalize_vectors(split_subvectors(embeddings, num_subspaces)))
