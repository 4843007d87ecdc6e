"""The codebooks of a quantizer as numpy arrays, level by level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfpqn.protocols import QuantizerLike

Cluster = Callable[[np.ndarray, int], np.ndarray]

# Rows whose tables are in memory at a time.
ROWS_AT_ONCE = 1024
# Between vectors of about unit length: below this, a mean has no direction.
SHORTEST_CENTRE = 1e-3


def read_levels(product: Any) -> np.ndarray:
    """A copy of the codebooks `[num_levels, num_subspaces, num_codewords, subvector_dim]`.

    Args:
        product: `product_quantizer()` of a quantizer.
    """
    codebooks = np.array(ops.convert_to_numpy(product.codebooks))
    return codebooks.reshape(-1, *codebooks.shape[-3:])


def write_levels(product: Any, levels: np.ndarray) -> None:
    """Give a product quantizer the codebooks that `read_levels` reads."""
    product.codebooks.assign(levels.reshape(product.codebooks.shape))


def read_subvectors(quantizer: QuantizerLike, embeddings: Any) -> np.ndarray:
    """What the first level quantizes of embeddings: `[items, num_subspaces, subvector_dim]`.

    Args:
        quantizer: A quantizer of `tfpqn.layers`; it is built if it was not.
        embeddings: `[batch, embedding_dim]`.

    Raises:
        ValueError: They have the wrong shape, or are not finite.
    """
    product_embeddings = quantizer.product_embeddings(embeddings)
    return np.asarray(ops.convert_to_numpy(quantizer.product_quantizer().split(product_embeddings)))


def soften(product: Any, subvectors: np.ndarray) -> np.ndarray:
    """Soft reconstructions of subvectors, which codes are to stand for."""
    return apply_in_chunks(lambda chunk: product.soften(chunk).reconstruction, subvectors)


def apply_in_chunks(function: Callable[[Any], Any], rows: np.ndarray) -> np.ndarray:
    """A function of rows, applied to `ROWS_AT_ONCE` at a time."""
    # Of no rows one empty chunk.
    starts = range(0, max(len(rows), 1), ROWS_AT_ONCE)
    chunks = (function(rows[start : start + ROWS_AT_ONCE]) for start in starts)
    return np.concatenate([ops.convert_to_numpy(chunk) for chunk in chunks])
