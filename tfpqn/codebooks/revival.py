"""New places for codewords that nothing chooses."""

from __future__ import annotations

import numpy as np
from keras import ops

from tfpqn.codebooks.levels import apply_in_chunks, read_levels, read_subvectors, write_levels
from tfpqn.ops import decode_codes
from tfpqn.protocols import QuantizerLike

# Share of the squared length below which a squared difference is one of rounding.
SMALLEST_ERROR = 1e-6


def revive_codewords(
    quantizer: QuantizerLike, embeddings: np.ndarray, rng: np.random.Generator
) -> int:
    """Move codewords that no embedding chooses onto subvectors that are quantized poorly.

    Those of the first level, which trains, chosen as training does, by direction: only what it
    chooses gets a gradient to speak of.

    Args:
        quantizer: A quantizer of `tfpqn.layers`.
        embeddings: `[num_embeddings, embedding_dim]`; a subvector is drawn with a chance in
            proportion to its error.
        rng: Source of the draw.

    Returns:
        How many codewords moved.

    Raises:
        ValueError: The embeddings have the wrong shape, or are not finite.
    """
    subvectors = read_subvectors(quantizer, embeddings)
    product = quantizer.product_quantizer()
    codes = apply_in_chunks(lambda chunk: product.soften(chunk).codes, subvectors)
    chosen = ops.convert_to_numpy(decode_codes(codes, product.trained_codebooks()))
    errors = np.square(subvectors - chosen).sum(axis=-1)
    squared_lengths = np.square(subvectors).sum(axis=-1)
    # A zero subvector is far from every codeword, but no codeword could stand on it.
    errors *= squared_lengths * (errors > SMALLEST_ERROR * squared_lengths)
    levels = read_levels(product)
    num_moved = 0
    for m, codebook in enumerate(levels[0]):
        dead = np.setdiff1d(np.arange(len(codebook)), codes[:, m])
        rows = _draw_by_error(errors[:, m], len(dead), rng)
        codebook[dead[: len(rows)]] = subvectors[rows, m]
        num_moved += len(rows)
    if num_moved:
        write_levels(product, levels)
    return num_moved


def _draw_by_error(errors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn without repetition."""
    candidates = np.flatnonzero(errors)
    count = min(count, len(candidates))
    if not count:
        return candidates[:0]
    chances = errors[candidates].astype(np.float64)
    return rng.choice(candidates, size=count, replace=False, p=chances / chances.sum())
