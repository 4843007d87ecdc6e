"""The arguments of a `Searcher`, checked and brought into the form that the search takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfpqn.index import CodeIndex

from ..interface.bounds import MAX_K, MAX_PIXELS
from ..search.storages.choice import Candidates, Partitioning, Progress
from ..search.storages.partition_tuning import MIN_ITEMS

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30
MAX_CANDIDATES = 100_000
CANDIDATES_PER_ITEM = 10
# Queries that a partition is tuned with, at most.
NUM_TUNING_QUERIES = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The arguments of `Searcher`, checked; described there."""

    num_levels: int | None = None
    top_k: int = 10
    tag_columns: Sequence[str] = ()
    label_column: str | None = None
    calibration: Mapping[str, Any] | None = None
    max_pixels: int = MAX_PIXELS
    partition: int | Literal["auto"] | None = None
    num_probes: int | None = None
    exact: bool = False
    agreement: float = 0.99
    tuning_queries: np.ndarray | None = None
    progress: Progress = lambda step, done, total: None
    first_levels: int | None = None
    num_candidates: int | None = None

    def __post_init__(self) -> None:
        _check_count("top_k", self.top_k, MAX_K)
        _check_count("max_pixels", self.max_pixels)
        if self.partition is None:
            self._check_nothing_needs_lists()
        if not isinstance(self.agreement, (int, float)) or not 0 < self.agreement <= 1:
            raise ValueError(
                f"agreement must lie in (0, 1]. Received: agreement={self.agreement!r}"
            )
        if self.num_probes is not None:
            _check_count("num_probes", self.num_probes)
        if self.num_candidates is not None:
            self._check_candidates(self.num_candidates)

    def _check_nothing_needs_lists(self) -> None:
        wanted = {
            "num_probes": self.num_probes is not None,
            "exact": self.exact,
            "tuning_queries": self.tuning_queries is not None,
        }
        given = [name for name, is_wanted in wanted.items() if is_wanted]
        if given:
            raise ValueError(
                "num_probes, exact and tuning_queries need lists: give partition as well. "
                f"Received: partition=None and {', '.join(given)}"
            )

    def _check_candidates(self, num_candidates: int) -> None:
        if self.first_levels is None:
            raise ValueError(
                "num_candidates needs a second stage: give first_levels. "
                f"Received: num_candidates={num_candidates} alone"
            )
        _check_count("num_candidates", num_candidates, MAX_CANDIDATES)
        if num_candidates < self.top_k:
            raise ValueError(
                f"num_candidates must be at least top_k, {self.top_k}. Received: {num_candidates}"
            )

    def choose_partitioning(self, quantizer: Any, codes: np.ndarray) -> Partitioning | None:
        """How to part the collection; None to leave it whole."""
        if self.partition is None:
            return None
        if self.tuning_queries is not None:
            _check_queries(self.tuning_queries, quantizer.embedding_dim)
        num_lists = self._choose_lists(len(codes))
        if not len(codes) or (num_lists is None and len(codes) < MIN_ITEMS):
            return None
        is_tuned = num_lists is None or self.num_probes is None
        return Partitioning(
            num_lists,
            self.num_probes,
            self.exact,
            self.agreement,
            _make_tuning_queries(quantizer, codes, self.tuning_queries, is_tuned),
            "reconstructions" if self.tuning_queries is None else "queries",
            self.progress,
        )

    def _choose_lists(self, num_items: int) -> int | None:
        """Number of lists; None to choose it by measurement."""
        if self.partition == "auto":
            if self.num_probes is not None:
                raise ValueError(
                    "num_probes needs a number of lists, as 'auto' chooses both. "
                    f"Received: partition='auto', num_probes={self.num_probes}"
                )
            return None
        if self.partition is None or isinstance(self.partition, str):
            raise ValueError(
                f"partition must be a number of lists, 'auto' or None. Received: {self.partition!r}"
            )
        # A number is no less wrong where there are no items yet.
        _check_count("partition", self.partition, num_items or MAX_COUNT)
        if self.num_probes is not None and self.num_probes > self.partition:
            raise ValueError(
                f"num_probes must be at most the number of lists, {self.partition}. "
                f"Received: num_probes={self.num_probes}"
            )
        return self.partition

    def choose_candidates(self, quantizer: Any) -> Candidates | None:
        """How many items the first levels find for all levels to rank; None to search once."""
        if self.first_levels is None:
            return None
        num_levels = quantizer.num_levels
        if num_levels == 1:
            raise ValueError(
                "first_levels needs codes with several levels. "
                f"Received: first_levels={self.first_levels} and codes of one level"
            )
        if not 1 <= self.first_levels < num_levels:
            raise ValueError(
                f"first_levels must be fewer than the {num_levels} levels of the codes, and at "
                f"least 1. Received: first_levels={self.first_levels}"
            )
        return Candidates(
            self.num_candidates or CANDIDATES_PER_ITEM * self.top_k,
            quantizer.code_length // num_levels * self.first_levels,
        )

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
        threshold = self.calibration["score_threshold"]
        if not np.isfinite(threshold):
            raise ValueError(
                f"the calibration's score_threshold must be finite. Received: {threshold!r}"
            )


def _check_count(name: str, value: Any, largest: int = MAX_COUNT) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    if not 1 <= value <= largest:
        raise ValueError(
            f"{name} must be at least 1 and at most {largest}. Received: {name}={value}"
        )


def _check_queries(queries: np.ndarray, embedding_dim: int) -> None:
    shape = np.shape(queries)
    if len(shape) != 2 or shape[0] == 0 or shape[1] != embedding_dim:
        raise ValueError(
            f"tuning_queries must have shape [queries, {embedding_dim}], and at least one row. "
            f"Received: {shape}"
        )
    if not np.isfinite(queries).all():
        raise ValueError("tuning_queries must be finite. Received: NaN or infinity")


def _make_tuning_queries(
    quantizer: Any, codes: np.ndarray, queries: np.ndarray | None, is_tuned: bool
) -> np.ndarray:
    """Some of the queries, or reconstructions of some items, in the form that search compares."""
    rows = codes if queries is None else queries
    count = min(NUM_TUNING_QUERIES, len(rows)) if is_tuned else 0
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    if queries is None:
        queries = quantizer.decode(codes[chosen].astype(np.int32))
    else:
        queries = np.asarray(queries[chosen], np.float32)
    return np.asarray(quantizer.normalize(queries))
