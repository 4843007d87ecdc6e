"""Codebooks, codes and ids of a FAISS index, in this package's order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .faiss_library import ROWS_PER_BLOCK, import_faiss


class Collection(NamedTuple):
    """What an index holds.

    Attributes:
        levels: float32 `[num_levels, num_subspaces, num_codewords, subvector_dim]`.
        codes: int32 `[num_items, num_levels * num_subspaces]`, level by level.
        ids: int64 `[num_items]`.
        beam_size: Sums of codewords that FAISS follows in coding.
    """

    levels: np.ndarray
    codes: np.ndarray
    ids: np.ndarray
    beam_size: int = 1


def read_collection(inner: Any) -> Collection:
    """Read an index that is none of the wrappers.

    Raises:
        ValueError: It is of a kind that cannot be read, or not trained.
    """
    name = type(inner).__name__
    read = _READERS.get(name)
    if read is None or not inner.is_trained:
        raise ValueError(
            f"faiss_index must be a trained {', '.join(_READERS)}, within IndexIDMap and "
            f"IndexPreTransform or without. Received: {name}{'' if read is None else ', untrained'}"
        )
    return read(inner)


def read_rows(inner: Any) -> np.ndarray:
    """Codes as FAISS stores them one after another: uint8 `[num_items, code_size]`."""
    return import_faiss().vector_to_array(inner.codes).reshape(inner.ntotal, inner.code_size)


def unpack(rows: np.ndarray, bits: list[int]) -> np.ndarray:
    """int32 `[num_items, len(bits)]`, numbers of so many bits, from packed rows."""
    faiss = import_faiss()
    unpacked = np.empty((len(rows), len(bits)), np.int32)
    widths = np.array(bits, np.int32)
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        unpacked[block] = faiss.unpack_bitstrings(np.ascontiguousarray(rows[block]), widths)
    return unpacked


def _read_pq(inner: Any) -> Collection:
    return _of_product(inner.pq, read_rows(inner), np.arange(inner.ntotal))


def _read_fast_scan(inner: Any) -> Collection:
    """Items lie in blocks, in an order that suits the processor."""
    faiss = import_faiss()
    packer = inner.get_CodePacker()
    stored = faiss.vector_to_array(inner.codes).reshape(-1, packer.block_size)
    rows = np.empty((len(stored), packer.nvec, packer.code_size), np.uint8)
    for block, unpacked in zip(stored, rows, strict=True):
        packer.unpack_all(faiss.swig_ptr(block), faiss.swig_ptr(unpacked))
    rows = rows.reshape(-1, packer.code_size)[: inner.ntotal]
    return _of_product(inner.pq, rows, np.arange(inner.ntotal))


def _read_lists(inner: Any) -> Collection:
    if inner.by_residual:
        raise ValueError(
            "IndexIVFPQ must have by_residual=False, as its codes are else those of differences "
            "from the centres of lists. Received: by_residual=True; train with by_residual=False, "
            "or code the vectors again"
        )
    from faiss.contrib.inspect_tools import get_invlist

    lists = [get_invlist(inner.invlists, number) for number in range(inner.nlist)]
    ids = np.concatenate([own for own, _ in lists])
    rows = np.concatenate([own for _, own in lists])
    order = np.argsort(ids, kind="stable")
    return _of_product(inner.pq, rows[order], ids[order])


def _of_product(pq: Any, rows: np.ndarray, ids: np.ndarray) -> Collection:
    codebooks = import_faiss().vector_to_array(pq.centroids).reshape(1, pq.M, pq.ksub, pq.dsub)
    return Collection(codebooks, unpack(rows, [pq.nbits] * pq.M), ids)


def _read_residual(inner: Any) -> Collection:
    return _of_levels(inner, inner.rq, 1, inner.rq.max_beam_size)


def _read_product_residual(inner: Any) -> Collection:
    first = import_faiss().downcast_Quantizer(inner.prq.subquantizer(0))
    return _of_levels(inner, inner.prq, inner.prq.nsplits, first.max_beam_size)


def _of_levels(inner: Any, additive: Any, num_subspaces: int, beam_size: int) -> Collection:
    """FAISS goes subspace by subspace, and in each level by level."""
    faiss = import_faiss()
    bits = faiss.vector_to_array(additive.nbits).tolist()
    if len(set(bits)) > 1:
        raise ValueError(
            f"All codebooks must have equally many codewords. Received: codebooks of {bits} bits"
        )
    num_levels = len(bits) // num_subspaces
    codebooks = faiss.vector_to_array(additive.codebooks)
    codebooks = codebooks.reshape(num_subspaces, num_levels, 2 ** bits[0], -1)
    codes = unpack(read_rows(inner), bits).reshape(-1, num_subspaces, num_levels)
    return Collection(
        np.ascontiguousarray(codebooks.swapaxes(0, 1)),
        codes.swapaxes(1, 2).reshape(len(codes), len(bits)),
        np.arange(inner.ntotal),
        int(beam_size),
    )


_READERS = {
    "IndexPQ": _read_pq,
    "IndexPQFastScan": _read_fast_scan,
    "IndexIVFPQ": _read_lists,
    "IndexResidualQuantizer": _read_residual,
    "IndexProductResidualQuantizer": _read_product_residual,
}
