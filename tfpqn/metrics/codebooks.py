"""How evenly the codewords are used, as Keras metrics."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


class _CodewordCounts(keras.metrics.Metric):
    """Counts how often each codeword was chosen since the last reset."""

    def __init__(
        self, code_length: int, num_codewords: int, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.code_length = code_length
        self.num_codewords = num_codewords
        self.counts = self.add_weight(
            name="counts", shape=(code_length, num_codewords), initializer="zeros"
        )

    def update_state(self, codes: Tensor, sample_weight: Tensor = None) -> None:
        """Count codes `[batch, code_length]`, or the first positions of codes.

        A sample weight is ignored: usage is a count.
        """
        offsets = ops.arange(codes.shape[1], dtype="int32") * self.num_codewords
        rows = ops.reshape(ops.cast(codes, "int32") + offsets, (-1,))
        counts = ops.segment_sum(
            ops.ones_like(rows, dtype=self.counts.dtype),
            rows,
            num_segments=self.code_length * self.num_codewords,
        )
        self.counts.assign_add(ops.reshape(counts, (self.code_length, self.num_codewords)))

    def _mean_of_counted(self, values: Tensor) -> Tensor:
        """Mean of `[code_length]` values over the positions of which codes were counted."""
        counted = ops.cast(ops.any(self.counts > 0, axis=1), values.dtype)
        return ops.sum(values * counted) / ops.maximum(ops.sum(counted), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "code_length": self.code_length,
            "num_codewords": self.num_codewords,
        }


@keras.saving.register_keras_serializable(package="tfpqn")
class CodebookUsage(_CodewordCounts):
    """Share of the codewords chosen at least once, between 0 and 1; mean over code positions.

    Its arguments are the `code_length` and `num_codewords` of a quantizer.
    """

    def result(self) -> Tensor:
        return self._mean_of_counted(ops.mean(ops.cast(self.counts > 0, "float32"), axis=1))


@keras.saving.register_keras_serializable(package="tfpqn")
class CodebookPerplexity(_CodewordCounts):
    """Exponential of the entropy of codeword use, mean over code positions.

    It lies between 1 (one codeword does everything) and `num_codewords` (all used alike); 0 before
    the first update. Its arguments are the `code_length` and `num_codewords` of a quantizer.
    """

    def result(self) -> Tensor:
        totals = ops.sum(self.counts, axis=1, keepdims=True)
        shares = self.counts / ops.maximum(totals, 1.0)
        entropies = -ops.sum(shares * ops.log(ops.maximum(shares, 1e-30)), axis=1)
        return self._mean_of_counted(ops.exp(entropies))
