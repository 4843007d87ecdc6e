"""Codes of several codebooks whose codewords add, chosen together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from tfpqn.ops.codes import decode_codes

Tensor = Any


def assign_beam(targets: Tensor, codebooks: Sequence[Tensor], beam_size: int) -> list[Tensor]:
    """Choose a codeword of every level so that their sum is near to each target.

    The levels follow one another, and after each the `beam_size` sums nearest to the target go on;
    of those after the last, the nearest is chosen. A beam of 1 is the greedy choice. A beam as wide
    as `num_codewords ** (num_levels - 1)` finds the nearest sum of all.

    Args:
        targets: `[batch, num_subspaces, subvector_dim]`.
        codebooks: One `[num_subspaces, num_codewords, subvector_dim]` a level.
        beam_size: At least 1.

    Returns:
        int32 codes `[batch, num_subspaces]`, one tensor a level.

    Reference:
        Babenko, Lempitsky: "Additive Quantization for Extreme Vector Compression", CVPR 2014,
        section 3.1, with one codebook a step.
    """
    num_subspaces, num_codewords, subvector_dim = codebooks[0].shape
    # What each sum of the beam leaves of its target, `[batch, num_subspaces, beam, subvector_dim]`.
    left = ops.expand_dims(targets, 2)
    codes: list[Tensor] = []
    for number, level in enumerate(codebooks, start=1):
        products = ops.einsum("bmwd,mkd->bmwk", left, level)
        lengths = ops.sum(ops.square(level), axis=-1)[None, :, None]
        errors = ops.sum(ops.square(left), axis=-1, keepdims=True) - 2 * products + lengths
        width = errors.shape[2] * num_codewords
        ranked = ops.reshape(-errors, (-1, num_subspaces, width))
        is_last = number == len(codebooks)
        _, best = ops.top_k(ranked, 1 if is_last else min(beam_size, width))
        best = ops.cast(best, "int32")
        parents, chosen = best // num_codewords, best % num_codewords
        codes = [ops.take_along_axis(code, parents, axis=2) for code in codes] + [chosen]
        if is_last:
            break
        offsets = ops.arange(num_subspaces, dtype="int32")[:, None] * num_codewords
        words = ops.take(ops.reshape(level, (-1, subvector_dim)), chosen + offsets, axis=0)
        left = ops.take_along_axis(left, parents[..., None], axis=2) - words
    return [code[:, :, 0] for code in codes]


def assign_beam_by_products(
    targets: Tensor, codebooks: Sequence[Tensor], beam_size: int
) -> list[Tensor]:
    """The same as `assign_beam`, up to rounding, from inner products alone.

    Products of targets and of codewords with all codewords are made once. So a beam costs look-ups
    in place of products with what each of its sums leaves, and subvectors may be long. It keeps
    `num_codewords ** 2` numbers for each two levels.

    Arguments and result are those of `assign_beam`.
    """
    num_subspaces, num_codewords, _ = codebooks[0].shape
    firsts = ops.arange(num_subspaces, dtype="int32")[:, None] * num_codewords
    codes: list[Tensor] = []
    # Squared distances of the beam's sums, less the squared length of the target.
    errors = ops.zeros_like(targets[:, :, :1])
    for number, level in enumerate(codebooks, start=1):
        lengths = ops.sum(ops.square(level), axis=-1)
        added = lengths - 2 * ops.einsum("bmd,mkd->bmk", targets, level)
        costs = errors[..., None] + added[:, :, None]
        for code, other in zip(codes, codebooks, strict=False):
            rows = ops.reshape(2 * ops.einsum("mld,mkd->mlk", other, level), (-1, num_codewords))
            costs = costs + ops.take(rows, code + firsts, axis=0)
        width = costs.shape[2] * num_codewords
        is_last = number == len(codebooks)
        ranked = ops.reshape(-costs, (-1, num_subspaces, width))
        kept, best = ops.top_k(ranked, 1 if is_last else min(beam_size, width))
        errors, best = -kept, ops.cast(best, "int32")
        parents, chosen = best // num_codewords, best % num_codewords
        codes = [ops.take_along_axis(code, parents, axis=2) for code in codes] + [chosen]
    return [code[:, :, 0] for code in codes]


def improve_in_turn(
    targets: Tensor, codebooks: Sequence[Tensor], codes: Sequence[Tensor], rounds: int
) -> list[Tensor]:
    """Choose the codeword of each level anew, with those of all others as they are.

    A beam decides on the first levels before it knows the last ones. No choice here takes a sum
    farther from its target.

    Args:
        targets: `[batch, num_subspaces, subvector_dim]`.
        codebooks: One `[num_subspaces, num_codewords, subvector_dim]` a level.
        codes: Of `assign_beam`.
        rounds: How often each level has its turn.

    Returns:
        int32 codes `[batch, num_subspaces]`, one tensor a level.

    Reference:
        Babenko, Lempitsky: "Additive Quantization for Extreme Vector Compression", CVPR 2014, of
        iterated conditional modes.
    """
    codes = list(codes)
    words = [decode_codes(own, level) for level, own in zip(codebooks, codes, strict=True)]
    left = ops.subtract(targets, sum(words))
    for _ in range(rounds):
        for number, level in enumerate(codebooks):
            left = left + words[number]
            lengths = ops.sum(ops.square(level), axis=-1)
            costs = lengths - 2 * ops.einsum("bmd,mkd->bmk", left, level)
            codes[number] = ops.cast(ops.argmin(costs, axis=-1), "int32")
            words[number] = decode_codes(codes[number], level)
            left = left - words[number]
    return codes
