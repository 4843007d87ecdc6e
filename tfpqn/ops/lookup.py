"""Lookup tables and asymmetric distance computation (ADC) by inner product."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def build_lookup_tables(subvectors: Tensor, codebooks: Tensor) -> Tensor:
    """Inner product of each subvector with every codeword of its subspace.

    The same table assigns codes (its largest entry per subspace) and scores items (`adc_scores`).

    Args:
        subvectors: `[queries, num_subspaces, subvector_dim]`.
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`.

    Returns:
        `[queries, num_subspaces, num_codewords]`.
    """
    return ops.einsum("qmd,mkd->qmk", subvectors, codebooks)


def adc_scores(tables: Tensor, codes: Tensor) -> Tensor:
    """Score of each item for each query: the sum of its table entries over code positions.

    `scores[q, i] = sum_p tables[q, p, codes[i, p]]`, summed in the order of `p`, so that equal
    codes get bit-equal scores.

    Args:
        tables: `[queries, code_length, num_codewords]`.
        codes: Integer tensor `[items, code_length]`.

    Returns:
        `[queries, items]`; larger is nearer.
    """
    positions = ops.cast(ops.transpose(codes), "int32")
    # The entries of all queries lie together: a codeword is looked up once for all of them.
    entries = ops.transpose(tables, (1, 2, 0))
    scores = ops.take(entries[0], positions[0], axis=0)
    for position in range(1, tables.shape[1]):
        scores = scores + ops.take(entries[position], positions[position], axis=0)
    return ops.transpose(scores)
