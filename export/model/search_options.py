"""What a `Searcher` may be told, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpqn.index import CodeIndex

from ..search.storages.choice import Partitioning, Progress, SecondStage, is_worth_parting

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30
MAX_CANDIDATES = 100_000
CANDIDATES_PER_ITEM = 10


def checked_count(name: str, value: Any, largest: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    # Positions are int32, and a scan goes one block beyond the last.
    if not 1 <= value <= largest:
        raise ValueError(
            f"{name} must be at least 1 and at most {largest}. Received: {name}={value}"
        )
    return int(value)


def checked_partitioning(
    partition: int | str | None,
    num_probes: int | None,
    exact: bool,
    agreement: float,
    queries: np.ndarray | None,
    progress: Progress | None,
    num_items: int,
) -> Partitioning | None:
    """How to part the collection; None to leave it whole."""
    if partition is None:
        given = {"num_probes": num_probes, "exact": exact or None, "tuning_queries": queries}
        names = [name for name, value in given.items() if value is not None]
        if names:
            raise ValueError(
                "num_probes, exact and tuning_queries need lists: give partition as well. "
                f"Received: partition=None and {', '.join(names)}"
            )
        return None
    if isinstance(partition, str) and partition != "auto":
        raise ValueError(
            f"partition must be a number of lists, 'auto' or None. Received: {partition!r}"
        )
    if not isinstance(agreement, (int, float)) or not 0 < agreement <= 1:
        raise ValueError(f"agreement must lie in (0, 1]. Received: agreement={agreement!r}")
    if num_probes is not None:
        num_probes = checked_count("num_probes", num_probes)
        if partition == "auto":
            raise ValueError(
                "num_probes needs a number of lists, as 'auto' chooses both. "
                f"Received: partition='auto', num_probes={num_probes}"
            )
    if not num_items:
        return None
    if partition != "auto":
        num_lists = checked_count("partition", partition, num_items)
        if num_probes is not None and num_probes > num_lists:
            raise ValueError(
                f"num_probes must be at most the number of lists, {num_lists}. "
                f"Received: num_probes={num_probes}"
            )
        return Partitioning(num_lists, num_probes, exact, agreement, queries, progress)
    if not is_worth_parting(num_items):
        return None
    return Partitioning(None, None, exact, agreement, queries, progress)


def check_queries(queries: np.ndarray, embedding_dim: int) -> None:
    """Raises ValueError unless these are embeddings to tune with."""
    shape = np.shape(queries)
    if len(shape) != 2 or shape[0] == 0 or shape[1] != embedding_dim:
        raise ValueError(
            f"tuning_queries must have shape [queries, {embedding_dim}], and at least one row. "
            f"Received: {shape}"
        )
    if not np.isfinite(queries).all():
        raise ValueError("tuning_queries must be finite. Received: NaN or infinity")


def checked_second_stage(
    first_levels: int | None,
    embeddings: np.ndarray | None,
    num_candidates: int | None,
    top_k: int,
    num_levels: int,
    calibration: Mapping[str, Any] | None,
) -> SecondStage | None:
    """How candidates are ranked; None to search once."""
    if first_levels is None and embeddings is None:
        if num_candidates is not None:
            raise ValueError(
                "num_candidates needs a second stage: give first_levels or embeddings. "
                f"Received: num_candidates={num_candidates} alone"
            )
        return None
    if first_levels is not None and embeddings is not None:
        raise ValueError("Rank candidates by levels or by embeddings. Received: both")
    if embeddings is not None and calibration is not None:
        raise ValueError(
            "A calibration holds for scores of codes, and embeddings give others. "
            "Received: calibration and embeddings"
        )
    if first_levels is not None:
        _check_first_levels(first_levels, num_levels)
    if num_candidates is None:
        num_candidates = CANDIDATES_PER_ITEM * top_k
    elif checked_count("num_candidates", num_candidates, MAX_CANDIDATES) < top_k:
        raise ValueError(
            f"num_candidates must be at least top_k, {top_k}. Received: {num_candidates}"
        )
    return SecondStage(num_candidates, first_levels, embeddings)


def _check_first_levels(first_levels: int, num_levels: int) -> None:
    """Raises ValueError unless levels are left for a second stage."""
    if num_levels == 1:
        raise ValueError(
            "first_levels needs codes with several levels. "
            f"Received: first_levels={first_levels} and codes of one level"
        )
    if not 1 <= first_levels < num_levels:
        raise ValueError(
            f"first_levels must be fewer than the {num_levels} levels of the codes, and at least "
            f"1. Received: first_levels={first_levels}"
        )


def checked_calibration(
    calibration: Mapping[str, Any] | None, index: CodeIndex, num_levels: int
) -> dict[str, Any] | None:
    """Scores mean the same only with the codebooks and levels that were calibrated."""
    if calibration is None:
        return None
    expected = {"codebook_fingerprint": index.layout.fingerprint, "num_levels": num_levels}
    for name, value in expected.items():
        if calibration.get(name) != value:
            raise ValueError(
                f"the calibration must be that of the network with {name}={value!r}. "
                f"Received: {calibration.get(name)!r}; calibrate again"
            )
    if not np.isfinite(calibration["score_threshold"]):
        raise ValueError(
            "the calibration's score_threshold must be finite. "
            f"Received: {calibration['score_threshold']!r}"
        )
    return dict(calibration)
