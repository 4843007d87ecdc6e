"""All codes, position by position: every item is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..scan import ROWS_PER_BLOCK, Admits, Neighbours, compile_group_maxima, search_codes
from .storage import Queries, Storage


class FlatCodes(Storage):
    """The codes as they are.

    Args:
        codes: Integers `[num_items, code_length]`.
        rows_per_block: Items scored at once at most, see `search_codes`.
        num_codewords: Number of codewords, if XLA is to compile the scan; see `Searcher`.
    """

    def __init__(
        self,
        codes: np.ndarray,
        rows_per_block: int = ROWS_PER_BLOCK,
        num_codewords: int | None = None,
    ) -> None:
        super().__init__(name="flat_codes")
        self.num_items = len(codes)
        self.rows_per_block = rows_per_block
        # Position by position, the order in which the search reads them.
        columns = np.ascontiguousarray(codes.T)
        self.codes = tf.Variable(columns, trainable=False, name="codes")
        self._compiled = None
        if num_codewords is not None and self.num_items:
            self._compiled = compile_group_maxima(self.codes, num_codewords)

    def find(
        self,
        queries: Queries,
        top_k: int | tf.Tensor,
        admits: Admits | None = None,
        num_probes: int | tf.Tensor | None = None,
    ) -> Neighbours:
        """See `Storage`."""
        return search_codes(
            queries.tables, self.codes, top_k, self.rows_per_block, admits, self._compiled
        )

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        """See `Storage`."""
        return tf.cast(tf.transpose(tf.gather(self.codes, positions, axis=1)), tf.int32)

    def describe(self) -> dict[str, Any]:
        """See `Storage`."""
        return {"kind": "flat"}
