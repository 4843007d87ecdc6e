"""The arguments of a `Searcher`, checked and brought into the form that the search takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfpqn.index import CodeIndex
from tfpqn.index.number_rows import EMBEDDING_COLUMN
from tfpqn.protocols import QuantizerLike

from ..interface.bounds import MAX_K, MAX_PIXELS
from ..interface.delta import Delta
from ..interface.shard import Shard
from ..search.filters import columns_to_read
from ..search.storages.partition_tuning import Partitioning, Progress

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30
# What each number may be at most.
_LARGEST = {
    "top_k": MAX_K,
    "max_pixels": MAX_COUNT,
    "num_probes": MAX_COUNT,
    "num_candidates": 100_000,
}
CANDIDATES_PER_ITEM = 10
# Queries that a partition is tuned with, at most.
NUM_TUNING_QUERIES = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The arguments of `Searcher`, checked; described there."""

    num_levels: int | None = None
    top_k: int = 10
    tag_columns: Sequence[str] = ()
    known_tags: Sequence[str] | None = ()
    label_column: str | None = None
    calibration: Mapping[str, Any] | None = None
    max_pixels: int = MAX_PIXELS
    partition: int | Literal["auto"] | None = None
    num_probes: int | None = None
    agreement: float = 0.99
    tuning_queries: np.ndarray | None = None
    progress: Progress = lambda step, done, total: None
    rerank: bool = False
    num_candidates: int | None = None
    shard: Shard | None = None
    delta: Delta | None = None

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            if getattr(self, name) is not getattr(SearchOptions, name):
                # One of NumPy's is neither a number of JSON nor one that the graph takes for one.
                number = _check_count(name, getattr(self, name), largest)
                object.__setattr__(self, name, number)
        if not 0 < self.agreement <= 1:
            raise ValueError(f"agreement must lie in (0, 1]. Received: agreement={self.agreement}")
        self._require_what_they_need()

    def _require_what_they_need(self) -> None:
        """No option is ignored because another one is missing."""
        of_lists = ("num_probes", "tuning_queries", "agreement")
        given = [
            name
            for name in of_lists
            if not np.array_equal(getattr(self, name), getattr(SearchOptions, name))
        ]
        if self.partition is None and given:
            raise ValueError(
                f"{', '.join(of_lists)} need lists: give partition as well. "
                f"Received: partition=None and {', '.join(given)}"
            )
        if self.partition == "auto" and self.num_probes is not None:
            raise ValueError(
                "num_probes needs a number of lists, as 'auto' chooses both. "
                f"Received: partition='auto', num_probes={self.num_probes}"
            )
        if self.num_probes is not None and "agreement" in given:
            raise ValueError(
                "agreement chooses num_probes: give one of them. "
                f"Received: num_probes={self.num_probes}, agreement={self.agreement}"
            )
        if self.num_candidates is not None and not self.rerank:
            raise ValueError(
                "num_candidates are ranked by embeddings: give rerank as well. "
                f"Received: num_candidates={self.num_candidates}, rerank=False"
            )
        if self.rerank and self.calibration is not None:
            raise ValueError(
                "A calibration holds for the scores of codes, and rerank gives those of "
                "embeddings: leave one out. Received: rerank and a calibration"
            )

    def choose_partitioning(
        self, quantizer: QuantizerLike, codes: np.ndarray
    ) -> Partitioning | None:
        """How to part the collection; None to leave it whole."""
        if self.partition is None:
            return None
        num_lists = None if self.partition == "auto" else self.partition
        if num_lists is not None:
            # A number is no less wrong where there are no items yet.
            _check_count("partition", num_lists, len(codes) or MAX_COUNT)
        if not len(codes):
            return None
        return Partitioning(
            num_lists,
            self.num_probes,
            self.agreement,
            self._choose_queries(quantizer, codes),
            "reconstructions" if self.tuning_queries is None else "queries",
            self.progress,
        )

    def _choose_queries(self, quantizer: QuantizerLike, codes: np.ndarray) -> np.ndarray:
        """Some of the queries, or reconstructions of items, in the form that search compares."""
        rows = codes if self.tuning_queries is None else np.asarray(self.tuning_queries)
        count = min(NUM_TUNING_QUERIES, len(rows))
        chosen = rows[np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))]
        if self.tuning_queries is None:
            return np.asarray(quantizer.normalize(quantizer.decode(chosen.astype(np.int32))))
        if not count or chosen.shape[1:] != (quantizer.embedding_dim,):
            raise ValueError(
                f"tuning_queries must have shape [queries, {quantizer.embedding_dim}], and at "
                f"least one row. Received: {np.shape(rows)}"
            )
        if not np.isfinite(chosen).all():
            raise ValueError("tuning_queries must be finite. Received: NaN or infinity")
        return np.asarray(quantizer.normalize(chosen.astype(np.float32)))

    def require_calibration_of(self, index: CodeIndex, num_levels: int) -> None:
        """Scores mean the same only with the codebooks and levels that were calibrated."""
        if self.calibration is None:
            return
        expected = {"codebook_fingerprint": index.layout.fingerprint, "num_levels": num_levels}
        for name, value in expected.items():
            if self.calibration.get(name) != value:
                raise ValueError(
                    f"the calibration must be that of the network with {name}={value!r}. "
                    f"Received: {self.calibration.get(name)!r}; calibrate again"
                )


def list_columns(options: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Those of the known metadata columns of an index that options of a searcher take."""
    columns = [*options.get("tag_columns", ()), *filter(None, [options.get("label_column")])]
    if options.get("rerank") and EMBEDDING_COLUMN in known:
        columns.append(EMBEDDING_COLUMN)
    return columns_to_read(columns, known)


def _check_count(name: str, value: Any, largest: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    if not 1 <= value <= largest:
        raise ValueError(
            f"{name} must be at least 1 and at most {largest}. Received: {name}={value}"
        )
    return int(value)
