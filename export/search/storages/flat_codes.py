"""All codes, position by position: every item is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..neighbours import Neighbours
from ..scan import compile_group_maxima, search_codes
from .storage import Queries, Storage, constant


class FlatCodes(Storage):
    """The codes as they are.

    Args:
        codes: Integers `[num_items, code_length]`.
        num_codewords: Number of codewords, if XLA is to compile the scan; see `Searcher`.
    """

    def __init__(self, codes: np.ndarray, num_codewords: int | None = None) -> None:
        super().__init__(name="flat_codes")
        self.num_items = len(codes)
        # Position by position, the order in which the search reads them.
        self.codes = constant("codes", np.ascontiguousarray(codes.T))
        self._compiled = None
        if num_codewords is not None and self.num_items:
            self._compiled = compile_group_maxima(self.codes, num_codewords)

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        """See `Storage`."""
        return search_codes(queries.tables, self.codes, top_k, queries.admits, self._compiled)

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        """See `Storage`."""
        return tf.cast(tf.transpose(tf.gather(self.codes, positions, axis=1)), tf.int32)

    def describe(self) -> dict[str, Any]:
        """See `Storage`."""
        return {"kind": "flat"}
