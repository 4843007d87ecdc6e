"""Levels of codebooks whose codewords add up to vectors, fitted together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfpqn.codebooks import lloyd
from tfpqn.codebooks.levels import apply_in_chunks, read_levels, write_levels
from tfpqn.layers.residual_product_quantization import (
    ResidualProductQuantization,
    measure_norms,
)

# The error of 7 levels of SIFT falls by an eighth in these, and by 0.4 % in four more.
JOINT_ROUNDS = 4
# Rounds of k-means at the start: the joint rounds go on from there.
START_ROUNDS = 10
# What levels leave points in all directions: each vector is nearer to the mean than to any other.
# Codewords that began as vectors would keep just these, 240 of 256, and few would share the rest.
# Begun nearer to the mean, 7 levels leave a fifth less of SIFT and a sixth less of photo features.
START_DISTANCE = 0.3
# Weight of the codewords that there are. It decides where the vectors leave a choice: whatever all
# codewords of one level gain, those of another can lose.
INERTIA = 1e-2
# Codewords of all positions up to which the equations of a joint fit are solved.
MOST_UNKNOWNS = 8192


def fit_levels(
    quantizer: ResidualProductQuantization,
    vectors: np.ndarray,
    rng: np.random.Generator,
    tell: Callable[[int, int], None],
) -> np.ndarray:
    """Fit all levels of a residual quantizer to vectors.

    Each level starts from k-means of what those before it leave. Then by turns: codes as
    `encode` chooses them, and the codewords of all levels that bring the sums of these codes
    nearest to the vectors (least squares). The codebooks with the smallest error stay.

    Args:
        quantizer: A built `ResidualProductQuantization` of whole vectors.
        vectors: `[num_vectors, num_subspaces, subvector_dim]`, as scores compare them.
        rng: Source of the draws.
        tell: Called with the number of turns done, and of all.

    Returns:
        Codes of the vectors, `[num_vectors, num_levels, num_subspaces]`. `assign_norms` comes next.

    Reference:
        Martinez, Zakhmi, Hoos, Little: "LSQ++: Lower Running Time and Higher Recall in
        Multi-Codebook Quantization", ECCV 2018.
    """
    write_levels(quantizer, start_levels(read_levels(quantizer).shape, vectors, rng))
    rounds = JOINT_ROUNDS if quantizer.num_levels * quantizer.num_codewords <= MOST_UNKNOWNS else 0
    best = read_levels(quantizer)
    chooser = CodeChooser(quantizer)
    codes = chooser.choose(vectors)
    smallest = measure_error(best, codes, vectors)
    levels, best_codes = best, codes
    for turn in range(rounds):
        levels = refit_all_levels(levels, codes, vectors)
        write_levels(quantizer, levels)
        codes = chooser.choose(vectors)
        error = measure_error(levels, codes, vectors)
        if error < smallest:
            smallest, best, best_codes = error, levels, codes
        tell(turn + 1, rounds)
    write_levels(quantizer, best)
    return best_codes


def assign_norms(
    quantizer: ResidualProductQuantization, vectors: np.ndarray, codes: np.ndarray
) -> None:
    """Fit the norms of a quantizer to vectors and their codes, as `fit_levels` gives them."""
    decoded = add_codewords(read_levels(quantizer), codes)
    norms = ops.convert_to_numpy(measure_norms(vectors, decoded))
    parts = fit_norms(norms, codes.reshape(len(vectors), -1), quantizer.num_codewords)
    quantizer.norms.assign(parts)


def start_levels(
    shape: tuple[int, ...], vectors: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """K-means of each level, of what the levels before it leave of the vectors."""
    levels = np.empty(shape, np.float32)
    left = np.array(np.moveaxis(vectors, 1, 0), order="C")
    for level in levels:
        for m, part in enumerate(left):
            level[m] = lloyd.cluster(part, len(level[m]), rng, START_ROUNDS, START_DISTANCE)
            part -= level[m][lloyd.assign_nearest(part, level[m])]
    return levels


class CodeChooser(keras.Model):
    """Codes of levels, by a function that the backend compiles once for all rounds of a fit.

    Args:
        quantizer: A built `ResidualProductQuantization`, whose codebooks may change between calls.
    """

    def __init__(self, quantizer: ResidualProductQuantization) -> None:
        super().__init__()
        self.quantizer = quantizer

    def call(self, vectors: Any) -> Any:
        return ops.stack(self.quantizer.choose_by_beam(vectors), axis=1)

    def choose(self, vectors: np.ndarray) -> np.ndarray:
        """Codes `[num_vectors, num_levels, num_subspaces]`."""
        return apply_in_chunks(self.predict_on_batch, vectors)


def refit_all_levels(levels: np.ndarray, codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Codewords whose sums are nearest to the vectors, with the codes as they are.

    Args:
        levels: `[num_levels, num_subspaces, num_codewords, subvector_dim]`; a codeword without an
            item stays as it is.
        codes: `[num_vectors, num_levels, num_subspaces]`.
        vectors: `[num_vectors, num_subspaces, subvector_dim]`.

    Returns:
        Array like `levels`.
    """
    refitted = np.empty_like(levels)
    for m in range(levels.shape[1]):
        solved = solve_sums(codes[:, :, m], vectors[:, m], levels[:, m])
        refitted[:, m] = solved.reshape(levels[:, m].shape)
    return refitted


def fit_norms(norms: np.ndarray, codes: np.ndarray, num_codewords: int) -> np.ndarray:
    """What positions of codes add to norms: each its own part, and one more what they miss.

    Args:
        norms: `[num_vectors]`.
        codes: `[num_vectors, code_length]`, without the last position.

    Returns:
        float32 `[code_length + 1, num_codewords]`.
    """
    parts = np.zeros((codes.shape[1], num_codewords), np.float32)
    # Of longer codes the last position holds the whole norm.
    if parts.size <= MOST_UNKNOWNS:
        mean = norms.mean(dtype=np.float64)
        parts = solve_sums(codes, (norms - mean)[:, None], parts[..., None]).reshape(parts.shape)
    left = norms - parts[np.arange(len(parts)), codes].sum(axis=1)
    return np.concatenate([parts, lloyd.cluster_numbers(left, num_codewords)[None]])


def solve_sums(codes: np.ndarray, vectors: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Codewords whose sums are nearest to vectors, `[code_length * num_codewords, dim]`.

    Args:
        codes: `[num_vectors, code_length]`.
        vectors: `[num_vectors, dim]`.
        before: The codewords that there are, `[code_length, num_codewords, dim]`.
    """
    num_codewords = before.shape[1]
    sums = np.stack([lloyd.sum_by_code(vectors, own, num_codewords) for own in codes.T])
    sums = (sums + INERTIA * before).reshape(before.shape[0] * num_codewords, -1)
    together = count_pairs(codes, num_codewords)
    together[np.diag_indices_from(together)] += INERTIA
    return np.linalg.solve(together, sums.astype(np.float64)).astype(np.float32)


def count_pairs(codes: np.ndarray, num_codewords: int) -> np.ndarray:
    """How many vectors have two codewords, each with each: `[code_length * num_codewords] * 2`."""
    size = num_codewords, num_codewords
    blocks = [
        [
            np.bincount(row * num_codewords + column, minlength=num_codewords**2)
            for column in codes.T
        ]
        for row in codes.astype(np.int64).T
    ]
    return np.block([[block.reshape(size) for block in row] for row in blocks]).astype(np.float64)


def add_codewords(levels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums `[num_vectors, num_subspaces, subvector_dim]` of the codewords that codes name."""
    subspaces = np.arange(levels.shape[1])
    sums = levels[0][subspaces, codes[:, 0]]
    for level in range(1, len(levels)):
        sums += levels[level][subspaces, codes[:, level]]
    return sums


def measure_error(levels: np.ndarray, codes: np.ndarray, vectors: np.ndarray) -> float:
    """Mean squared distance of the vectors from their sums."""
    squares = np.square(vectors - add_codewords(levels, codes))
    return float(squares.sum(axis=(1, 2), dtype=np.float64).mean())
