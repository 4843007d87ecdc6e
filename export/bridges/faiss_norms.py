"""Lengths of the items of a FAISS index of levels, as positions of codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfpqn.codebooks.joint_levels import MOST_UNKNOWNS, add_codewords, fit_norms

from .faiss_codes import Collection, read_rows, unpack
from .faiss_library import ROWS_PER_BLOCK, import_faiss

NUM_BYTES = 256
# Items that the parts of lengths are fitted to.
MOST_ROWS = 2**17
# Sums of codewords that stand for the items of an index without any.
NUM_DRAWN = 2**13


def fit_last_position(inner: Any, collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """What positions of codes add to squared lengths, and the last position of each item's code.

    Args:
        inner: `IndexResidualQuantizer` or `IndexProductResidualQuantizer`.
        collection: What it holds.

    Returns:
        float32 `[code_length, num_codewords]`, with the last position, and integers `[num_items]`.

    Raises:
        ValueError: There are too many codewords to fit the lengths of their sums.
    """
    num_codewords = collection.levels.shape[2]
    values = _read_byte_values(inner)
    code_length = collection.codes.shape[1]
    if values is not None and num_codewords == NUM_BYTES:
        norms = np.zeros((code_length + 1, num_codewords), np.float32)
        norms[-1] = values
        return norms, _unpack_norms(inner, 8)
    if code_length * num_codewords > MOST_UNKNOWNS:
        raise ValueError(
            f"An index of levels with METRIC_L2 must have at most {MOST_UNKNOWNS:,} codewords in "
            f"all. Received: {code_length} codebooks of {num_codewords:,}"
        )
    codes = collection.codes
    if len(codes):
        lengths = _read_lengths(inner, collection)
    else:
        codes = np.random.default_rng(0).integers(num_codewords, size=(NUM_DRAWN, code_length))
        lengths = _measure(collection.levels, codes)
    step = max(len(lengths) // MOST_ROWS, 1)
    norms = fit_norms(lengths[::step], codes[::step], num_codewords)
    parts = norms[np.arange(code_length), codes].sum(axis=1)
    return norms, _nearest(norms[-1], lengths - parts)[: len(collection.codes)]


def _read_lengths(inner: Any, collection: Collection) -> np.ndarray:
    """Squared lengths `[num_items]` by which FAISS compares."""
    if inner.aq.search_type == inner.aq.ST_norm_float:
        return _unpack_norms(inner, 32).view(np.float32)
    return _measure(collection.levels, collection.codes)


def _measure(levels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Squared lengths `[num_items]` of sums of codewords."""
    codes = codes.reshape(-1, *levels.shape[:2])
    lengths = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        lengths[rows] = np.square(add_codewords(levels, codes[rows])).sum(axis=(1, 2))
    return lengths


def _unpack_norms(inner: Any, num_bits: int) -> np.ndarray:
    """What follows the codes: int32 `[num_items]`."""
    bits = import_faiss().vector_to_array(inner.aq.nbits).tolist()
    return np.ascontiguousarray(unpack(read_rows(inner), [*bits, num_bits])[:, -1])


def _read_byte_values(inner: Any) -> np.ndarray | None:
    """The squared lengths that a byte stands for, float32 `[256]`; None if FAISS keeps no bytes."""
    additive = inner.aq
    numbers = np.arange(NUM_BYTES)
    if additive.search_type == additive.ST_norm_cqint8:
        return np.array([additive.decode_qcint(int(n)) for n in numbers], np.float32)
    if additive.search_type == additive.ST_norm_qint8:
        span = additive.norm_max - additive.norm_min
        return np.asarray((numbers + 0.5) / NUM_BYTES * span + additive.norm_min, np.float32)
    return None


def _nearest(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Position of the nearest of ascending values to each number."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, numbers)
