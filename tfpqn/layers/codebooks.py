"""What fitting and reviving do to one codebook, as numpy functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

Cluster = Callable[[np.ndarray, int], np.ndarray]

# Between vectors of about unit length: below these, a difference is one of rounding.
SHORTEST_CENTRE = 1e-3
SMALLEST_ERROR = 1e-6


def require_usable(codebooks: np.ndarray) -> None:
    """Raises ValueError if no search can tell items apart by these codebooks.

    Args:
        codebooks: All codebooks of a quantizer, in any shape.
    """
    received = (
        "NaN or infinity"
        if not np.isfinite(codebooks).all()
        else "zeros alone"
        if not codebooks.any()
        else None
    )
    if received is not None:
        raise ValueError(
            "The codebooks of the quantizer must be finite and not all zero, or no item could be "
            f"found by its code. Received: {received}; train the network anew"
        )


def fit_codebook(
    codebook: np.ndarray, subvectors: np.ndarray, cluster: Cluster, *, needs_direction: bool
) -> None:
    """Overwrite a codebook by the cluster centres of subvectors.

    Args:
        codebook: `[num_codewords, subvector_dim]`, changed in place; with fewer centres than
            codewords the last keep their place.
        subvectors: `[num_subvectors, subvector_dim]`.
        cluster: From vectors and a number to at most as many centres.
        needs_direction: Whether a codeword counts by its direction alone. The mean of opposite
            vectors has none: such a codeword stays as it is.
    """
    centres = cluster(subvectors, len(codebook))
    chosen = np.ones(len(centres), dtype=bool)
    if needs_direction:
        chosen = np.linalg.norm(centres, axis=-1) > SHORTEST_CENTRE
    codebook[: len(centres)][chosen] = centres[chosen]


def mean_reconstructions(
    codebooks: np.ndarray,
    quantized: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    needs_direction: bool = True,
) -> np.ndarray:
    """Codebooks whose codewords are the mean reconstruction of the subvectors that chose them.

    Args:
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`; a codeword that nothing chose
            stays as it is.
        quantized: Batches of codes `[batch, num_subspaces]` and of reconstructions
            `[batch, num_subspaces, subvector_dim]`.
        needs_direction: Whether a codeword whose reconstructions cancel out stays too.

    Returns:
        Array like `codebooks`.
    """
    sums = np.zeros(codebooks.shape, np.float64)
    counts = np.zeros(codebooks.shape[:2], np.int64)
    subspaces = np.arange(len(codebooks))
    for codes, reconstructions in quantized:
        np.add.at(sums, (subspaces, codes), reconstructions)
        np.add.at(counts, (subspaces, codes), 1)
    means = sums / np.maximum(counts, 1)[..., None]
    moves = counts[..., None] > 0
    if needs_direction:
        moves &= np.linalg.norm(means, axis=-1, keepdims=True) > SHORTEST_CENTRE
    return np.where(moves, means, codebooks)


def refit_levels(codebooks: np.ndarray, quantized: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Let the codewords of the levels become the means of what all others leave to them.

    Level by level, each after those before it have moved; the first level stays as it is.

    Args:
        codebooks: `[num_levels, num_subspaces, num_codewords, subvector_dim]`, changed in place; a
            codeword that nothing chose stays as it is.
        quantized: Batches of codes `[num_levels, batch, num_subspaces]` and of what all levels but
            one leave, `[num_levels, batch, num_subspaces, subvector_dim]`, changed in place.
    """
    subspaces = np.arange(codebooks.shape[1])
    for level in range(1, len(codebooks)):
        batches = ((codes[level], left[level]) for codes, left in quantized)
        moved = mean_reconstructions(codebooks[level], batches, needs_direction=False)
        steps = moved - codebooks[level]
        for codes, left in quantized:
            others = np.arange(len(codebooks)) != level
            left[others] -= steps[subspaces, codes[level]]
        codebooks[level] = moved


def revive_codebooks(
    codebooks: np.ndarray,
    subvectors: np.ndarray,
    codes: np.ndarray,
    errors: np.ndarray,
    rng: np.random.Generator,
) -> int:
    """Move the codewords that no code names onto subvectors that are quantized poorly.

    Args:
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`, changed in place.
        subvectors: `[batch, num_subspaces, subvector_dim]`.
        codes: `[batch, num_subspaces]`.
        errors: `[batch, num_subspaces]`; a subvector is drawn with a chance in proportion to its
            error.
        rng: Source of the draw.

    Returns:
        How many codewords moved.
    """
    num_moved = 0
    for m, codebook in enumerate(codebooks):
        dead = np.setdiff1d(np.arange(len(codebook)), codes[:, m])
        rows = _draw_by_error(errors[:, m], len(dead), rng)
        codebook[dead[: len(rows)]] = subvectors[rows, m]
        num_moved += len(rows)
    return num_moved


def _draw_by_error(errors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn without repetition."""
    candidates = np.flatnonzero(errors > SMALLEST_ERROR)
    count = min(count, len(candidates))
    if not count:
        return candidates[:0]
    chances = errors[candidates].astype(np.float64)
    return rng.choice(candidates, size=count, replace=False, p=chances / chances.sum())
