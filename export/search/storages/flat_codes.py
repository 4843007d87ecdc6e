"""All codes, position by position: every item is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..neighbours import Neighbours
from ..scan import search_codes
from ..scoring import pack_planes, unpack_planes
from .coded_rows import CodedRows
from .storage import Queries, constant


class FlatCodes(CodedRows):
    """The codes as they are.

    Args:
        codes: Integers `[num_items, code_length]`.
    """

    def __init__(self, codes: np.ndarray) -> None:
        super().__init__(name="flat_codes")
        self.num_items = len(codes)
        self.order = None
        self.code_length = codes.shape[1]
        # Position by position, the order in which the search reads them.
        self.planes = constant("planes", pack_planes(codes))
        # The planes do not tell it, whose last group may be filled up.
        self.saved_num_items = constant("num_items", np.array(len(codes), np.int64))

    def _search(self, queries: Queries, top_k: int | tf.Tensor) -> Neighbours:
        return search_codes(queries.tables, self.planes, self.num_items, top_k, queries.admits)

    def _look_up(self, rows: tf.Tensor) -> list[tf.Tensor]:
        planes = tf.expand_dims(tf.gather(self.planes, rows, axis=1), 2)
        return unpack_planes(planes, self.code_length)

    def codes_at(self, positions: tf.Tensor) -> tf.Tensor:
        planes = tf.gather(self.planes, positions, axis=1)
        return tf.stack(unpack_planes(planes, self.code_length), axis=1)

    def describe(self) -> dict[str, Any]:
        return {"kind": "flat", **self.report}
