"""All codes, position by position: every item is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..neighbours import Neighbours
from ..scan import search_codes
from .storage import Queries, Storage, constant


class FlatCodes(Storage):
    """The codes as they are.

    Args:
        codes: Integers `[num_items, code_length]`.
    """

    def __init__(self, codes: np.ndarray) -> None:
        super().__init__(name="flat_codes")
        self.num_items = len(codes)
        # Position by position, the order in which the search reads them.
        self.codes = constant("codes", np.ascontiguousarray(codes.T))

    def find(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        return search_codes(queries.tables, self.codes, top_k, queries.admits)

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.transpose(tf.gather(self.codes, positions, axis=1)), tf.int32)

    def describe(self) -> dict[str, Any]:
        return {"kind": "flat", **self.report}
