"""K-means by matrix products, which can go on from codewords that there are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Rows whose products with all codewords are in memory at a time.
ROWS_AT_ONCE = 4096
# Share of the mean squared error below which a vector is a codeword.
SMALLEST_ERROR = 1e-6


def draw_codewords(vectors: np.ndarray, num_codewords: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors drawn at random, each at most once more than any other."""
    rows = rng.permutation(len(vectors))
    return np.array(vectors[np.resize(rows, num_codewords)])


def assign_nearest(vectors: np.ndarray, codewords: np.ndarray) -> np.ndarray:
    """Position `[num_vectors]` of the nearest codeword; the first of equals."""
    half_squares = 0.5 * np.square(codewords).sum(axis=1)
    codes = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        codes[rows] = (vectors[rows] @ codewords.T - half_squares).argmax(axis=1)
    return codes


def sum_by_code(vectors: np.ndarray, codes: np.ndarray, num_codewords: int) -> np.ndarray:
    """Sums `[num_codewords, dim]` of the vectors that have each code."""
    counts = np.bincount(codes, minlength=num_codewords)
    used = np.flatnonzero(counts)
    starts = np.cumsum(counts)[used] - counts[used]
    sums = np.zeros((num_codewords, vectors.shape[1]), np.float32)
    if len(used):
        # Sorted by code, the vectors of each lie together.
        ordered = vectors[np.argsort(codes, kind="stable")]
        sums[used] = np.add.reduceat(ordered, starts, axis=0)
    return sums


class Round(NamedTuple):
    """What a round of k-means gives.

    Attributes:
        codewords: `[num_codewords, dim]`.
        codes: `[num_vectors]`, the codeword that each vector had a part in.
    """

    codewords: np.ndarray
    codes: np.ndarray


def improve_codewords(
    vectors: np.ndarray, codewords: np.ndarray, rng: np.random.Generator
) -> Round:
    """One round of k-means: the means of the vectors that each codeword is nearest to.

    A codeword that is nearest to none moves onto a vector that no codeword equals, each with the
    same chance: drawn by their errors, the vectors far from all others would have most codewords.
    """
    codes = assign_nearest(vectors, codewords)
    counts = np.bincount(codes, minlength=len(codewords))
    sums = sum_by_code(vectors, codes, len(codewords))
    improved = sums / np.maximum(counts, 1)[:, None]
    unused = np.flatnonzero(counts == 0)
    if len(unused):
        errors = np.square(vectors - improved[codes]).sum(axis=1, dtype=np.float64)
        # Rounding leaves an error where many equal vectors have a codeword of their own.
        uncoded = np.flatnonzero(errors > SMALLEST_ERROR * errors.mean())
        if len(uncoded):
            improved[unused] = vectors[np.resize(rng.permutation(uncoded), len(unused))]
    return Round(np.asarray(improved, np.float32), codes)


def cluster(
    vectors: np.ndarray,
    num_codewords: int,
    rng: np.random.Generator,
    iterations: int,
    distance: float = 1.0,
) -> np.ndarray:
    """Codewords `[num_codewords, dim]`: k-means that starts from vectors drawn at random.

    Args:
        vectors: `[num_vectors, dim]`.
        num_codewords: Number of codewords.
        rng: Source of the draws.
        iterations: Rounds.
        distance: How far from the mean codewords begin, as a share of the drawn vectors' distance.
    """
    mean = vectors.mean(axis=0)
    codewords = mean + distance * (draw_codewords(vectors, num_codewords, rng) - mean)
    for _ in range(iterations):
        codewords = improve_codewords(vectors, codewords, rng).codewords
    return codewords


def cluster_numbers(numbers: np.ndarray, num_clusters: int, iterations: int = 25) -> np.ndarray:
    """Centres `[num_clusters]` of numbers: k-means that starts from their quantiles."""
    numbers = np.sort(numbers.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(numbers)])
    centres = np.quantile(numbers, (np.arange(num_clusters) + 0.5) / num_clusters)
    for _ in range(iterations):
        borders = np.searchsorted(numbers, (centres[1:] + centres[:-1]) / 2)
        borders = np.concatenate([[0], borders, [len(numbers)]])
        counts = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(counts, 1)
        centres = np.sort(np.where(counts > 0, means, centres))
    return centres.astype(np.float32)
