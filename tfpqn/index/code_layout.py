"""The look of the codes of an index, and which codebooks they belong to."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_MAX_CODEWORDS = 2**31


@dataclass(frozen=True)
class CodeLayout:
    """Shape and dtype of codes, and the fingerprint of the codebooks that gave them.

    Args:
        code_length: Number of small integers that make one code.
        num_codewords: Each of them is in `[0, num_codewords)`.
        fingerprint: Digest of the codebooks, lower-case hex digits.

    Raises:
        TypeError: A size is no integer.
        ValueError: A size is out of range or the fingerprint is no hex digest.
    """

    code_length: int
    num_codewords: int
    fingerprint: str

    def __post_init__(self) -> None:
        for name, limit in (("code_length", 2**31 - 1), ("num_codewords", _MAX_CODEWORDS)):
            size = _checked_size(name, getattr(self, name), limit)
            object.__setattr__(self, name, size)
        if not isinstance(self.fingerprint, str) or not re.fullmatch("[0-9a-f]+", self.fingerprint):
            raise ValueError(
                "fingerprint must be a digest written in lower-case hex digits. "
                f"Received: {self.fingerprint!r}"
            )

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The smallest of uint8, uint16 and int32 that holds every codeword's number."""
        if self.num_codewords <= 2**8:
            return np.dtype(np.uint8)
        if self.num_codewords <= 2**16:
            return np.dtype(np.uint16)
        return np.dtype(np.int32)

    @property
    def bytes_per_code(self) -> int:
        """Size of one code, in memory as on disk."""
        return self.code_length * self.code_dtype.itemsize

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a column of codes: fixed-size binary."""
        return pa.binary(self.bytes_per_code)

    def to_arrow(self, codes: np.ndarray) -> pa.Array:
        """Codes `[rows, code_length]` of `code_dtype` as a column, little-endian.

        The column shares the memory of the codes where the machine is little-endian, too.
        """
        stored = np.ascontiguousarray(codes, dtype=self.code_dtype.newbyteorder("<"))
        return pa.Array.from_buffers(self.arrow_type, len(stored), [None, pa.py_buffer(stored)])

    def from_arrow(self, column: pa.ChunkedArray) -> np.ndarray:
        """The codes `[rows, code_length]` of a column, checked.

        Raises:
            ValueError: A code is missing, has another size or holds an unknown codeword.
        """
        if column.null_count:
            raise ValueError(f"Every item must have a code. Received: {column.null_count} without")
        if column.type != self.arrow_type:  # Spark writes only binary of free size
            column = column.cast(self.arrow_type)
        chunks = [self._codes_of(chunk) for chunk in column.chunks if len(chunk)]
        empty = np.empty((0, self.code_length), self.code_dtype)
        return self.cast_codes(chunks[0] if len(chunks) == 1 else np.concatenate([empty, *chunks]))

    def _codes_of(self, chunk: pa.Array) -> np.ndarray:
        # A chunk may be a slice: its rows begin `offset` codes into the buffer.
        codes = np.frombuffer(
            chunk.buffers()[1],
            dtype=self.code_dtype.newbyteorder("<"),
            count=len(chunk) * self.code_length,
            offset=chunk.offset * self.bytes_per_code,
        )
        return codes.reshape(len(chunk), self.code_length)

    def cast_codes(self, codes: npt.ArrayLike) -> np.ndarray:
        """Checked codes in `code_dtype`, C-contiguous, copied only if need be.

        Args:
            codes: Integers `[rows, code_length]`, each in `[0, num_codewords)`.

        Returns:
            Codes `[rows, code_length]` of `code_dtype`.

        Raises:
            TypeError: The codes are not integers.
            ValueError: Shape or range is wrong.
        """
        array = np.asarray(codes)
        if array.ndim != 2 or array.shape[1] != self.code_length:
            raise ValueError(
                f"codes must have the shape [rows, code_length] with code_length="
                f"{self.code_length}. Received: shape {list(array.shape)}"
            )
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"codes must be integers. Received: dtype {array.dtype}")
        self._check_range(array)
        return np.ascontiguousarray(array, dtype=self.code_dtype)

    def require(self, expected: CodeLayout) -> None:
        """Raise a ValueError unless an index of this layout can be searched with the expected."""
        mine = self.code_length, self.num_codewords
        if mine != (expected.code_length, expected.num_codewords):
            raise ValueError(
                f"The index must hold codes of code_length={expected.code_length} and "
                f"num_codewords={expected.num_codewords}. Received: an index with "
                f"code_length={self.code_length} and num_codewords={self.num_codewords}"
            )
        if self.fingerprint != expected.fingerprint:
            raise ValueError(
                f"The index must be built with the network's codebooks, of fingerprint "
                f"{expected.fingerprint[:12]}.... Received: an index built with other codebooks, "
                f"of fingerprint {self.fingerprint[:12]}...; encode the collection again"
            )

    def _check_range(self, codes: np.ndarray) -> None:
        cannot_leave = codes.dtype == np.uint8 and self.num_codewords >= 2**8
        if codes.size == 0 or cannot_leave:
            return
        smallest, largest = int(codes.min()), int(codes.max())
        if smallest < 0 or largest >= self.num_codewords:
            raise ValueError(
                f"codes must lie in [0, num_codewords) with num_codewords={self.num_codewords}. "
                f"Received: values from {smallest} to {largest}"
            )


def _checked_size(name: str, value: object, limit: int) -> int:
    try:
        size = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        size = None
    if size is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer. Received: {value!r}")
    if not 1 <= size <= limit:
        raise ValueError(f"{name} must be from 1 to {limit}. Received: {value!r}")
    return size
