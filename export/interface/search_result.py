"""What a search answers, whoever ran it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found, best first; unpacks and is indexed like the tuple `(ids, scores)`.

    Attributes:
        ids: `[batch, top_k]`, int64 or object array of str; -1 or "" where there are fewer items.
        scores: float32 `[batch, top_k]`, larger is nearer.
        matches: bool `[batch, top_k]`, whether the score reaches the calibrated threshold; None
            without calibration.
        labels: object array of str `[batch, top_k]`, "" where there is none; None where the
            searcher was made without `label_column`.
    """

    ids: np.ndarray
    scores: np.ndarray
    matches: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.ids, self.scores))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: Any) -> Any:
        return (self.ids, self.scores)[place]

    @property
    def num_found(self) -> np.ndarray:
        """int64 `[batch]`: how many items each query found; the places after them are no items."""
        return np.sum(self.ids != ("" if self.ids.dtype == object else -1), axis=1)

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, np.ndarray]) -> SearchResult:
        """A signature's outputs, strings still as UTF-8 bytes."""
        ids, labels = outputs["ids"], outputs.get("labels")
        if ids.dtype == object:
            ids = decode_texts(ids)
        labels = None if labels is None else decode_texts(labels)
        return cls(ids, outputs["scores"], outputs.get("matches"), labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by their names."""
        arrays = {name: getattr(self, name) for name in ("ids", "scores", "matches", "labels")}
        return {name: values for name, values in arrays.items() if values is not None}

    def to_outputs(self) -> dict[str, np.ndarray]:
        """What `from_outputs` makes this of."""
        return {
            name: _encode(values) if values.dtype == object else values
            for name, values in self.arrays().items()
        }


def _encode(texts: np.ndarray) -> np.ndarray:
    return np.array([text.encode() for text in texts.flat], object).reshape(texts.shape)


def decode_texts(texts: np.ndarray) -> np.ndarray:
    """UTF-8 bytes of any shape as str."""
    return np.array([text.decode() for text in texts.flat], object).reshape(texts.shape)
