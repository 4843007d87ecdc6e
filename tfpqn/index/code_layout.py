"""What the codes of an index look like, and which codebooks they belong to."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CodeLayout"]

_MAX_CODEWORDS = 2**31


@dataclass(frozen=True)
class CodeLayout:
    """Shape and dtype of codes, and the fingerprint of the codebooks that gave them.

    Args:
        code_length: how many small integers make one code.
        num_codewords: each of them is in `[0, num_codewords)`.
        fingerprint: digest of the codebooks, lower-case hex digits.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a size is out of range or the fingerprint is no hex digest.
    """

    code_length: int
    num_codewords: int
    fingerprint: str

    def __post_init__(self) -> None:
        for name, limit in (("code_length", 2**31 - 1), ("num_codewords", _MAX_CODEWORDS)):
            size = _checked_size(name, getattr(self, name), limit)
            object.__setattr__(self, name, size)
        if not isinstance(self.fingerprint, str):
            raise TypeError(
                f"fingerprint must be a string of hex digits, "
                f"got fingerprint={self.fingerprint!r} of type {type(self.fingerprint).__name__}."
            )
        if not re.fullmatch("[0-9a-f]+", self.fingerprint):
            raise ValueError(
                f"fingerprint must be a digest written in lower-case hex digits, "
                f"got fingerprint={self.fingerprint!r}."
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

    def cast_codes(self, codes: npt.ArrayLike) -> np.ndarray:
        """Checks codes and returns them in `code_dtype`, C-contiguous, copied only if need be.

        Args:
            codes: integers `[rows, code_length]`, each in `[0, num_codewords)`.

        Returns:
            Codes `[rows, code_length]` of `code_dtype`.

        Raises:
            TypeError: if the codes are not integers.
            ValueError: if shape or range is wrong.
        """
        array = np.asarray(codes)
        self.check_shape(array)
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"codes must be integers, got dtype {array.dtype}.")
        self._check_range(array)
        return np.ascontiguousarray(array, dtype=self.code_dtype)

    def check_shape(self, codes: np.ndarray) -> None:
        """Raises ValueError unless the shape is `[rows, code_length]`."""
        if codes.ndim != 2 or codes.shape[1] != self.code_length:
            raise ValueError(
                f"codes must have the shape [rows, code_length] with code_length="
                f"{self.code_length}, got shape {list(codes.shape)}."
            )

    def require_sizes(self, expected: CodeLayout) -> None:
        """Raises ValueError unless codes of an index of this layout look like the expected ones."""
        mine = self.code_length, self.num_codewords
        if mine != (expected.code_length, expected.num_codewords):
            raise ValueError(
                f"the index must hold codes of code_length={expected.code_length} and "
                f"num_codewords={expected.num_codewords}, got an index with "
                f"code_length={self.code_length} and num_codewords={self.num_codewords}."
            )

    def require_fingerprint(self, fingerprint: str) -> None:
        """Raises ValueError unless an index of this layout has the codebooks of the fingerprint."""
        if self.fingerprint != fingerprint:
            raise ValueError(
                f"the index must be built with the network's codebooks, of fingerprint "
                f"{fingerprint[:12]}..., got an index built with other codebooks, of fingerprint "
                f"{self.fingerprint[:12]}...; encode the collection again."
            )

    def _check_range(self, codes: np.ndarray) -> None:
        cannot_leave = codes.dtype == np.uint8 and self.num_codewords >= 2**8
        if codes.size == 0 or cannot_leave:
            return
        smallest, largest = int(codes.min()), int(codes.max())
        if smallest < 0 or largest >= self.num_codewords:
            raise ValueError(
                f"codes must lie in [0, num_codewords) with num_codewords={self.num_codewords}, "
                f"got values from {smallest} to {largest}."
            )


def _checked_size(name: str, value: object, limit: int) -> int:
    try:
        size = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        size = None
    if size is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {name}={value!r}.")
    if not 1 <= size <= limit:
        raise ValueError(f"{name} must be from 1 to {limit}, got {name}={value!r}.")
    return size
