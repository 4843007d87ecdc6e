"""From scores to a decision: the threshold from which on a neighbour counts as a match."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfpqn.datasets import Splits
from tfpqn.protocols import NetworkLike, QuantizerLike
from tfpqn.similarities import SUBSPACE

from .encoding import Encoded, encode_set, keep_labelled
from .evaluation import find_nearest, relevance_blocks, require_labels, score_codes


class Pairs(NamedTuple):
    """Queries with their nearest items.

    Attributes:
        scores: float32 `[pairs]`, larger is nearer.
        relevant: Boolean `[pairs]`: whether query and item belong together.
    """

    scores: np.ndarray
    relevant: np.ndarray


def calibrate(
    network: NetworkLike, splits: Splits, *, precision: float, top_k: int = 10, seed: int = 0
) -> dict[str, Any]:
    """Find the score from which on the neighbours of a query are matches.

    Half of the queries, drawn at random, are paired with their `top_k` nearest items, as a search
    with whole codes answers them. The threshold is the smallest of the pairs' scores such that of
    all pairs with that score or a larger one at least the share `precision` is relevant. The other
    half tells what the threshold is worth.

    Args:
        network: A `ProductQuantizationNetwork`.
        splits: `query` and `database` are used.
        precision: Wanted share of relevant pairs among the matches, above 0 and at most 1.
        top_k: Nearest items of each query.
        seed: Seed of the halves.

    Returns:
        A dict that JSON can hold: `precision` (as wanted), `score_threshold`, `distance_threshold`
        (for codes without error the cosine distance, from 0 to 2, with the similarity subspace the
        mean over the subvectors; codewords of their own length make it larger; None with dot and
        l2), `top_k`, `calibration` and `held_out` (each with the number of `pairs`, and `precision`
        and `recall` at the threshold; None where nothing matches or nothing is relevant),
        `codebook_fingerprint` and `num_levels`. Recall is the share of the relevant pairs that
        match.

    Raises:
        ValueError: An argument is out of range, there are fewer than two queries or labels, no
            threshold has the wanted precision, or an embedding is not finite.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1. Received: {precision}")
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1. Received: {top_k}")
    network.require_item_shape(splits.query.item_shape)
    query = keep_labelled(encode_set(network, splits.query))
    database = encode_set(network, splits.database)
    require_labels(query.labels, database.labels)
    chosen, held_out = _halves(len(query.labels), seed)
    quantizer = network.quantizer
    pairs = _nearest_pairs(quantizer, query.take(chosen), database, top_k)
    threshold = find_threshold(pairs, precision)
    others = _nearest_pairs(quantizer, query.take(held_out), database, top_k)
    return {
        "precision": float(precision),
        "score_threshold": threshold,
        "distance_threshold": _cosine_distance(quantizer, threshold),
        "top_k": int(top_k),
        "calibration": _describe(pairs, threshold),
        "held_out": _describe(others, threshold),
        "codebook_fingerprint": quantizer.codebook_fingerprint(),
        "num_levels": quantizer.num_levels,
    }


def find_threshold(pairs: Pairs, precision: float) -> float:
    """The smallest score of a pair from which on at least the share `precision` is relevant.

    Raises:
        ValueError: There is no pair, or no score has that precision; the best one is named.
    """
    order = np.argsort(pairs.scores)[::-1]
    scores = pairs.scores[order]
    # A threshold takes all pairs of a score, or none.
    last_of_score = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    shares = np.cumsum(pairs.relevant[order]) / np.arange(1, len(scores) + 1)
    fitting = np.flatnonzero(last_of_score & (shares >= precision))
    if not len(fitting):
        best = shares[last_of_score].max(initial=0.0)
        raise ValueError(
            f"precision must be at most {best:.6g}, the best that a threshold reaches on these "
            f"{len(scores)} pairs of a query and a near item. Received: {precision}"
        )
    return float(scores[fitting[-1]])


def seal_calibration(calibration: dict[str, Any], network_sha256: str | None) -> dict[str, Any]:
    """The content of a file from which `open_calibration` reads this, unchanged, or nothing.

    Args:
        calibration: What JSON can hold.
        network_sha256: SHA-256 of the file of the network that it is for; None without a file.
    """
    sealed = {**calibration, "network_sha256": network_sha256}
    return {**sealed, "checksum": _hash(sealed)}


def open_calibration(content: dict[str, Any], network_sha256: str | None) -> dict[str, Any]:
    """The calibration that `seal_calibration` was given.

    Raises:
        ValueError: Anything was changed, or the calibration is that of another network.
    """
    calibration = {k: v for k, v in content.items() if k not in ("network_sha256", "checksum")}
    sealed = seal_calibration(calibration, content.get("network_sha256"))
    if content.get("checksum") != sealed["checksum"]:
        raise ValueError("a content that its checksum does not fit; calibrate again")
    if content["network_sha256"] != network_sha256:
        raise ValueError("the calibration of another network; calibrate again")
    return calibration


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _halves(num_queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if num_queries < 2:
        raise ValueError(
            "A calibration needs at least two queries: one to set the threshold, one to test it. "
            f"Received: {num_queries}"
        )
    order = np.random.default_rng(seed).permutation(num_queries)
    middle = (num_queries + 1) // 2
    return order[:middle], order[middle:]


def _nearest_pairs(
    quantizer: QuantizerLike, query: Encoded, database: Encoded, top_k: int
) -> Pairs:
    """The queries with their nearest items; of equal scores the earlier item is the nearer."""
    tables = ops.convert_to_numpy(quantizer.lookup_tables(query.embeddings))
    scores, relevant = [], []
    for rows, is_relevant in relevance_blocks(query.labels, database.labels):
        all_scores = score_codes(tables[rows], database.codes)
        nearest = find_nearest(all_scores, top_k)
        scores.append(np.take_along_axis(all_scores, nearest, axis=1).ravel())
        relevant.append(np.take_along_axis(is_relevant, nearest, axis=1).ravel())
    return Pairs(np.concatenate(scores), np.concatenate(relevant))


def _cosine_distance(quantizer: QuantizerLike, score: float) -> float | None:
    """The distance that a score stands for; None for a score that is no cosine."""
    if quantizer.similarity == "cosine":
        return 1.0 - score
    if quantizer.similarity != SUBSPACE:
        return None
    # Each level adds to the same subvectors, which have unit length.
    return 1.0 - score / (quantizer.code_length // quantizer.num_levels)


def _describe(pairs: Pairs, threshold: float) -> dict[str, Any]:
    matches = pairs.scores >= threshold
    found = int((matches & pairs.relevant).sum())
    return {
        "pairs": len(pairs.scores),
        "precision": found / int(matches.sum()) if matches.any() else None,
        "recall": found / int(pairs.relevant.sum()) if pairs.relevant.any() else None,
    }
