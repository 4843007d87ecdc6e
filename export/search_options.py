"""What a `Searcher` may be told, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .storage_choice import Partitioning, Progress, is_worth_parting

# With as many items and as large a block at most, no position overflows int32.
MAX_COUNT = 2**30
MAX_CANDIDATES = 100_000


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
        if num_probes is not None or exact:
            raise ValueError(
                "num_probes and exact need lists: give partition as well. "
                f"Received: partition=None, num_probes={num_probes}, exact={exact}"
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
    return Partitioning(None, num_probes, exact, agreement, queries, progress)


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


def check_first_levels(first_levels: int, num_levels: int) -> None:
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


def check_reranking(
    first_levels: int | None,
    embeddings: np.ndarray | None,
    num_candidates: int | None,
    top_k: int,
    calibration: Mapping[str, Any] | None,
) -> None:
    if first_levels is not None and embeddings is not None:
        raise ValueError("Rank candidates by levels or by embeddings. Received: both")
    if embeddings is not None and calibration is not None:
        raise ValueError(
            "A calibration holds for scores of codes, and embeddings give others. "
            "Received: calibration and embeddings"
        )
    if num_candidates is not None:
        if first_levels is None and embeddings is None:
            raise ValueError(
                "num_candidates needs a second stage: give first_levels or embeddings. "
                f"Received: num_candidates={num_candidates} alone"
            )
        if checked_count("num_candidates", num_candidates, MAX_CANDIDATES) < top_k:
            raise ValueError(
                f"num_candidates must be at least top_k, {top_k}. Received: {num_candidates}"
            )


def checked_item_embeddings(quantizer: Any, embeddings: np.ndarray, num_items: int) -> np.ndarray:
    expected = (num_items, quantizer.embedding_dim)
    if embeddings.shape != expected:
        raise ValueError(f"embeddings must have shape {expected}. Received: {embeddings.shape}")
    blocks = np.array_split(embeddings, max(num_items // 2**16, 1))
    normalized = np.concatenate(
        [np.asarray(quantizer.normalize(block), np.float16) for block in blocks]
    )
    if not np.isfinite(normalized).all():
        raise ValueError("embeddings must be finite. Received: NaN or infinity")
    return normalized
