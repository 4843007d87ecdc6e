"""What a `Searcher` may be told, checked and brought into the form that the search takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfpqn.index import CodeIndex

from ..search.storages.choice import Partitioning, Progress, SecondStage
from ..search.storages.partition_tuning import MIN_ITEMS

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30
MAX_CANDIDATES = 100_000
CANDIDATES_PER_ITEM = 10
# Queries that a partition is tuned with, at most.
NUM_TUNING_QUERIES = 128
# Embeddings that are normalised at once.
ROWS_AT_ONCE = 2**16


def checked_count(name: str, value: Any, largest: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer. Received: {name}={value!r}")
    if not 1 <= value <= largest:
        raise ValueError(
            f"{name} must be at least 1 and at most {largest}. Received: {name}={value}"
        )
    return int(value)


def checked_partitioning(
    quantizer: Any,
    codes: np.ndarray,
    *,
    partition: int | str | None,
    num_probes: int | None,
    exact: bool,
    agreement: float,
    tuning_queries: np.ndarray | None,
    progress: Progress | None,
) -> Partitioning | None:
    """How to part the collection; None to leave it whole."""
    if partition is None:
        given = {"num_probes": num_probes, "exact": exact or None, "tuning_queries": tuning_queries}
        names = [name for name, value in given.items() if value is not None]
        if names:
            raise ValueError(
                "num_probes, exact and tuning_queries need lists: give partition as well. "
                f"Received: partition=None and {', '.join(names)}"
            )
        return None
    if not isinstance(agreement, (int, float)) or not 0 < agreement <= 1:
        raise ValueError(f"agreement must lie in (0, 1]. Received: agreement={agreement!r}")
    if tuning_queries is not None:
        _check_queries(tuning_queries, quantizer.embedding_dim)
    num_lists = _checked_lists(partition, num_probes, len(codes))
    if not len(codes) or (num_lists is None and len(codes) < MIN_ITEMS):
        return None
    is_tuned = num_lists is None or num_probes is None
    return Partitioning(
        num_lists,
        num_probes,
        exact,
        agreement,
        _make_tuning_queries(quantizer, codes, tuning_queries, is_tuned),
        "reconstructions" if tuning_queries is None else "queries",
        progress or (lambda step, done, total: None),
    )


def _checked_lists(partition: int | str, num_probes: int | None, num_items: int) -> int | None:
    """Number of lists; None to choose it."""
    if num_probes is not None:
        checked_count("num_probes", num_probes)
    if partition == "auto":
        if num_probes is not None:
            raise ValueError(
                "num_probes needs a number of lists, as 'auto' chooses both. "
                f"Received: partition='auto', num_probes={num_probes}"
            )
        return None
    if isinstance(partition, str):
        raise ValueError(
            f"partition must be a number of lists, 'auto' or None. Received: {partition!r}"
        )
    # A number is no less wrong where there are no items yet.
    num_lists = checked_count("partition", partition, num_items or MAX_COUNT)
    if num_probes is not None and num_probes > num_lists:
        raise ValueError(
            f"num_probes must be at most the number of lists, {num_lists}. "
            f"Received: num_probes={num_probes}"
        )
    return num_lists


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


def checked_second_stage(
    quantizer: Any,
    num_items: int,
    *,
    top_k: int,
    first_levels: int | None,
    embeddings: np.ndarray | None,
    num_candidates: int | None,
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
    if num_candidates is None:
        num_candidates = CANDIDATES_PER_ITEM * top_k
    elif checked_count("num_candidates", num_candidates, MAX_CANDIDATES) < top_k:
        raise ValueError(
            f"num_candidates must be at least top_k, {top_k}. Received: {num_candidates}"
        )
    if embeddings is None:
        num_levels = quantizer.num_levels
        _check_first_levels(first_levels, num_levels)
        return SecondStage(num_candidates, quantizer.code_length // num_levels * first_levels)
    if first_levels is not None:
        raise ValueError("Rank candidates by levels or by embeddings. Received: both")
    if calibration is not None:
        raise ValueError(
            "A calibration holds for scores of codes, and embeddings give others. "
            "Received: calibration and embeddings"
        )
    halves = _to_halves(quantizer, embeddings, num_items)
    return SecondStage(num_candidates, embeddings=halves)


def _check_first_levels(first_levels: Any, num_levels: int) -> None:
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


def _to_halves(quantizer: Any, embeddings: np.ndarray, num_items: int) -> np.ndarray:
    """Normalised embeddings of all items in half precision."""
    expected = (num_items, quantizer.embedding_dim)
    if embeddings.shape != expected:
        raise ValueError(f"embeddings must have shape {expected}. Received: {embeddings.shape}")
    halves = np.empty(expected, np.float16)
    for start in range(0, num_items, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        halves[rows] = quantizer.normalize(embeddings[rows])
    if not np.isfinite(halves).all():
        raise ValueError("embeddings must be finite. Received: NaN or infinity")
    return halves


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
