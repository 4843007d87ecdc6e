"""Codes: small integers that name the chosen codewords."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def code_dtype(num_codewords: int) -> str:
    """Name of the smallest dtype that holds `0 .. num_codewords - 1`.

    Args:
        num_codewords: Size of one codebook, at least 1.

    Returns:
        `"uint8"`, `"uint16"` or `"int32"`. On torch Keras keeps the second as int32.
    """
    if num_codewords <= 1 << 8:
        return "uint8"
    return "uint16" if num_codewords <= 1 << 16 else "int32"


def decode_codes(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Look up the codeword of each code position.

    Args:
        codes: Integer tensor `[batch, num_subspaces]`.
        codebooks: `[num_subspaces, num_codewords, subvector_dim]`.

    Returns:
        Subvectors `[batch, num_subspaces, subvector_dim]`.
    """
    num_subspaces, num_codewords, subvector_dim = codebooks.shape
    # One gather over all codebooks laid end to end: row m * num_codewords + codes[:, m].
    offsets = ops.arange(num_subspaces, dtype="int32") * num_codewords
    rows = ops.cast(codes, "int32") + offsets
    return ops.take(ops.reshape(codebooks, (-1, subvector_dim)), rows, axis=0)
