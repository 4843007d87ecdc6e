"""Vectors in an array or in a memory-mapped file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpqn.datasets.image_set import ImageBatch, ImageSet, is_arrow, number_items, number_names
from tfpqn.datasets.vectors.columns import read_ids
from tfpqn.items import VECTORS, to_vectors

# Vectors that are looked at together.
_ROWS_AT_ONCE = 2**14


class VectorSet(ImageSet):
    """Vectors in an array; `images` of a batch are float32 `[batch, dim]`.

    Args:
        vectors: Real numbers `[num_vectors, dim]` of any dtype; may be memory-mapped.
        labels: One per vector: integers, multi-hot rows, or names, which are numbered; -1 for none,
            of all vectors if None.
        ids: One per vector; 0, 1, 2, .. by default.
        label_names: Name of each label value.
        metadata: Further columns that an index keeps: name -> one value per vector; an Arrow array
            may have missing ones.

    Raises:
        TypeError: The vectors are not numbers.
        ValueError: They are not finite, their shape is off, or lengths differ.
    """

    items = VECTORS
    item_dtype = "float32"
    in_memory = True
    mirrors_alike = False
    fields = ("vectors", "labels", "ids")

    def __init__(
        self,
        vectors: np.ndarray,
        labels: Any = None,
        ids: Any = None,
        label_names: Sequence[str] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.vectors = vectors = np.asanyarray(vectors)
        self._require_finite(vectors)
        self._describe(np.shape(vectors), labels, label_names, ids, metadata or {})

    def _describe(
        self,
        shape: tuple[int, ...],
        labels: Any,
        label_names: Sequence[str],
        ids: Any,
        metadata: Mapping[str, Any],
    ) -> None:
        """Set all that is known beside the vectors."""
        labels = np.full(shape[0], -1, np.int64) if labels is None else labels
        self.labels, self.label_names = number_names(labels, label_names)
        self.has_own_ids = ids is not None
        ids = None if ids is None else read_ids(ids)
        self.ids = number_items(ids, self.labels, shape[0], "vector")
        self.image_shape = shape[1:]
        self.metadata = {
            name: values if is_arrow(values) else np.asarray(values)
            for name, values in metadata.items()
        }
        for name, values in self.metadata.items():
            if len(values) != shape[0]:
                raise ValueError(
                    f"The metadata column {name!r} must have one value for each of {shape[0]} "
                    f"vectors. Received: {len(values)}"
                )
        self.skipped = {}

    @staticmethod
    def _require_finite(vectors: Any) -> None:
        """A look at all rows, a few at a time, before any work begins."""
        if np.ndim(vectors) != 2 or not len(vectors):
            to_vectors(vectors, "vectors")
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            try:
                to_vectors(vectors[start : start + _ROWS_AT_ONCE], "vectors")
            except ValueError as error:
                if len(vectors) <= _ROWS_AT_ONCE:
                    raise
                raise ValueError(f"{error} of those from row {start} on") from None

    def read(self, positions: np.ndarray, seeds: np.ndarray | None = None) -> ImageBatch:
        return ImageBatch(to_vectors(self.vectors[positions], "vectors"), positions)

    def content(self) -> str:
        rows = np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(np.int64)
        return hashlib.sha256(self.read(rows).images.tobytes()).hexdigest()[:16]

    def readable(self) -> VectorSet:
        return self
