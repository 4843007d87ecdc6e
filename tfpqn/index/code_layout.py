"""The look of the codes of an index, and which codebooks they belong to."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfpqn.index import number_rows


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
        for name in ("code_length", "num_codewords"):
            size = operator.index(getattr(self, name))
            if not 1 <= size <= 2**31:
                raise ValueError(f"{name} must be from 1 to 2**31. Received: {size}")
            object.__setattr__(self, name, size)
        if not re.fullmatch("[0-9a-f]+", str(self.fingerprint)):
            raise ValueError(
                "fingerprint must be a digest written in lower-case hex digits. "
                f"Received: {self.fingerprint!r}"
            )

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The smallest of uint8, uint16 and int32 that holds every codeword's number."""
        if self.num_codewords <= 2**8:
            return np.dtype(np.uint8)
        return np.dtype(np.uint16 if self.num_codewords <= 2**16 else np.int32)

    @property
    def bytes_per_code(self) -> int:
        """Size of one code, in memory as on disk."""
        return self.code_length * self.code_dtype.itemsize

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a column of codes: fixed-size binary."""
        return pa.binary(self.bytes_per_code)

    def to_arrow(self, codes: np.ndarray) -> pa.Array:
        """Codes `[rows, code_length]` as a column, little-endian, which shares their memory."""
        return number_rows.to_arrow(codes.astype(self.code_dtype, copy=False))

    def from_arrow(self, column: pa.ChunkedArray) -> np.ndarray:
        """The codes `[rows, code_length]` of a column; a ValueError if a codeword is unknown."""
        return self.cast_codes(number_rows.from_arrow(column, self.code_dtype))

    def cast_codes(self, codes: npt.ArrayLike) -> np.ndarray:
        """Checked codes `[rows, code_length]` of `code_dtype`, copied only if need be.

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
        cannot_leave = array.dtype == np.uint8 and self.num_codewords >= 2**8
        if array.size and not cannot_leave:
            smallest, largest = int(array.min()), int(array.max())
            if smallest < 0 or largest >= self.num_codewords:
                raise ValueError(
                    f"codes must lie in [0, num_codewords) with num_codewords="
                    f"{self.num_codewords}. Received: values from {smallest} to {largest}"
                )
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
