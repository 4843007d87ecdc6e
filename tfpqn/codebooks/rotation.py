"""The rotation of vectors under which a product of codebooks loses least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfpqn.codebooks.lloyd import (
    Round,
    assign_nearest,
    draw_codewords,
    improve_codewords,
    sum_by_code,
)

# How much more than without a rotation the start from principal directions may lose. A little is
# no harm: errors that are spread over all directions mix up fewer neighbours.
MOST_LOSS = 1.01
# How much of a turn's change the next one begins with.
MOMENTUM = 0.9


def fit_rotation(
    vectors: np.ndarray,
    num_subspaces: int,
    num_codewords: int,
    rng: np.random.Generator,
    iterations: int,
    tell: Callable[[int], None],
) -> np.ndarray:
    """An orthogonal matrix that makes product quantization of `vectors @ matrix` lose little.

    By turns: one round of k-means in each subspace, then the rotation that brings the vectors
    nearest to their reconstructions. Each turn starts from where the last two would lead, which
    takes a fraction of the turns. It begins with principal directions dealt out to the subspaces;
    if that ends with a larger error than k-means without a rotation, with no rotation.

    Args:
        vectors: `[num_vectors, dim]`.
        tell: Called with the number of turns done.

    Returns:
        float32 `[dim, dim]`.

    Reference:
        Ge, He, Ke, Sun: "Optimized Product Quantization for Approximate Nearest Neighbor Search",
        CVPR 2013.
    """
    codebooks = _draw(vectors, num_subspaces, num_codewords, rng)
    for _ in range(iterations):
        codebooks = [found.codewords for found in _improve(vectors, codebooks, rng)]
    limit = MOST_LOSS * _measure_error(vectors, codebooks)
    rotation = deal_directions(vectors, num_subspaces)
    turned = _draw(vectors @ rotation, num_subspaces, num_codewords, rng)
    rotation, turned = _turn(vectors, rotation, turned, rng, iterations, tell)
    if _measure_error(vectors @ rotation, turned) <= limit:
        return rotation
    start = np.eye(vectors.shape[1], dtype=np.float32)
    return _turn(vectors, start, codebooks, rng, iterations, tell)[0]


def deal_directions(vectors: np.ndarray, num_subspaces: int) -> np.ndarray:
    """Principal directions, dealt to subspaces so that the products of their variances are alike.

    Returns:
        float32 `[dim, dim]`, a direction in each column.
    """
    centred = vectors - vectors.mean(axis=0)
    variances, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    # Variances of zero have no logarithm, and any subspace may have them.
    logs = np.log(np.maximum(variances, variances[-1] * 1e-12 + 1e-300))
    space = vectors.shape[1] // num_subspaces
    dealt: list[list[int]] = [[] for _ in range(num_subspaces)]
    sums = np.zeros(num_subspaces)
    for direction in np.argsort(-logs, kind="stable"):
        open_subspaces = [m for m in range(num_subspaces) if len(dealt[m]) < space]
        m = min(open_subspaces, key=lambda number: sums[number])
        dealt[m].append(int(direction))
        sums[m] += logs[direction] - logs.min()
    return directions[:, np.concatenate(dealt)].astype(np.float32)


def split(vectors: np.ndarray, num_subspaces: int) -> np.ndarray:
    """Slices `[num_subspaces, num_vectors, subvector_dim]`."""
    parts = np.stack(np.split(vectors, num_subspaces, axis=1))
    return np.ascontiguousarray(parts)


def _turn(
    vectors: np.ndarray,
    rotation: np.ndarray,
    codebooks: list[np.ndarray],
    rng: np.random.Generator,
    iterations: int,
    tell: Callable[[int], None],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rotation after so many turns, and the codebooks that go with it."""
    before = rotation
    for turn in range(iterations):
        rotated = vectors @ _to_rotation(rotation + MOMENTUM * (rotation - before))
        rounds = _improve(rotated, codebooks, rng)
        codebooks = [found.codewords for found in rounds]
        before, rotation = rotation, _align(vectors, rounds)
        tell(turn + 1)
    return rotation, codebooks


def _draw(
    vectors: np.ndarray, num_subspaces: int, num_codewords: int, rng: np.random.Generator
) -> list[np.ndarray]:
    return [draw_codewords(part, num_codewords, rng) for part in split(vectors, num_subspaces)]


def _measure_error(vectors: np.ndarray, codebooks: list[np.ndarray]) -> float:
    """Sum of squared distances from the reconstructions."""
    return sum(
        float(np.square(part - codebook[assign_nearest(part, codebook)]).sum(dtype=np.float64))
        for part, codebook in zip(split(vectors, len(codebooks)), codebooks, strict=True)
    )


def _improve(
    rotated: np.ndarray, codebooks: list[np.ndarray], rng: np.random.Generator
) -> list[Round]:
    parts = split(rotated, len(codebooks))
    return [improve_codewords(part, book, rng) for part, book in zip(parts, codebooks, strict=True)]


def _align(vectors: np.ndarray, rounds: list[Round]) -> np.ndarray:
    """The rotation of the vectors that comes nearest to their reconstructions (Procrustes)."""
    columns = []
    for codewords, codes in rounds:
        # `vectors.T @ reconstructions`, with the vectors of each codeword summed first.
        columns.append(sum_by_code(vectors, codes, len(codewords)).T @ codewords)
    return _to_rotation(np.concatenate(columns, axis=1))


def _to_rotation(matrix: np.ndarray) -> np.ndarray:
    """The orthogonal matrix that is nearest."""
    left, _, right = np.linalg.svd(matrix.astype(np.float64))
    return (left @ right).astype(np.float32)
