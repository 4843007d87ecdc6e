"""Retrieval quality of a network: raw queries against hard codes, beside raw embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfpqn.codebooks.levels import apply_in_chunks
from tfpqn.datasets import Splits
from tfpqn.datasets.image_set import find_labelled
from tfpqn.metrics import rank_gains, rank_items
from tfpqn.ops import adc_scores, count_shared_labels, label_relevance
from tfpqn.protocols import NetworkLike, QuantizerLike

from .encoding import Encoded, encode_set, keep_labelled, spread

TIES = "expected value over the orders of equally scored items"

# Scores held at once, as queries times items.
SCORES_PER_BLOCK = 1 << 24
# Queries whose exact neighbours are looked for.
NEIGHBOUR_QUERIES = 1000
# Numbers of exact neighbours, and of items found among which they are counted.
NEIGHBOURS = ((1, 1), (1, 10), (1, 100), (10, 10), (100, 100))
# From a slice of the queries to their scores `[queries, items]`.
Scores = Callable[[slice], np.ndarray]


def evaluate(
    network: NetworkLike,
    splits: Splits,
    *,
    cutoffs: Sequence[int] = (100, 1000),
    recall_ks: Sequence[int] = (1, 10, 100),
    batch_size: int = 256,
) -> dict[str, Any]:
    """Rank the database for each query and measure the rankings.

    Queries stay raw and items are hard codes, scored by the same functions that serve a search.
    Ties are averaged over (see `tfpqn.metrics.average_precision`). The same figures for raw
    embeddings on both sides stand beside, so that the price of coding is visible.

    Args:
        network: A `ProductQuantizationNetwork`.
        splits: `query` and `database` are used.
        cutoffs: The R of each mAP@R to report beside the mAP over the full ranking.
        recall_ks: The k of each recall@k, and of each NDCG@k where items have several labels.
        batch_size: Images, or frames of clips, embedded at once.

    Returns:
        A dict that JSON can hold: `mAP`, `mAP@R`, `recall@k`, for multi-hot labels `NDCG@k` (an
        item's gain is its share of the query's labels), the same under `raw_embeddings`,
        `soft_items` (the mAP against items as in training), `coded_queries` (the mAP of a symmetric
        search: queries are their own codes' reconstructions), `prefixes` (for a residual quantizer
        the mAP of its first levels alone), `neighbour_recall` (under `"n@k"` the share of the n
        items nearest to a raw query, by raw embeddings, that are among the first k found by codes,
        on at most 1,000 queries), `codebook_usage` on the database, sizes of the parts, and how
        ties were counted. Queries without a label (-1) are left out of the figures and
        counted as `unlabelled_queries`; items without one are relevant to none. Where labels tell
        nothing, `not_measured` says why, and each mAP is None.

    Raises:
        ValueError: Nothing of query or database can be read, or an embedding is not finite.
    """
    network.require_item_shape(splits.query.item_shape)
    query = encode_set(network, splits.query, batch_size)
    database = encode_set(network, splits.database, batch_size)
    figures = evaluate_encoded(
        network.quantizer, query, database, cutoffs=cutoffs, recall_ks=recall_ks
    )
    return {**figures, "splits": splits.describe()}


def evaluate_encoded(
    quantizer: QuantizerLike,
    all_queries: Encoded,
    database: Encoded,
    *,
    cutoffs: Sequence[int] = (),
    recall_ks: Sequence[int] = (),
) -> dict[str, Any]:
    """The figures of `evaluate`, but for the sizes of the parts, of items that are encoded."""
    query = keep_labelled(all_queries)
    tables = ops.convert_to_numpy(quantizer.lookup_tables(query.embeddings))
    labels = query.labels, database.labels
    by_codes = _score_codes(tables, database.codes)
    by_embeddings = _score_embeddings(quantizer, query.embeddings, database.embeddings)
    gap = find_label_gap(*labels)
    chosen = count_codewords(database.codes, quantizer.num_codewords) > 0
    return {
        "ranking": "full ranking, raw query against hard codes",
        "similarity": quantizer.similarity,
        "ties": TIES,
        **_measure(by_codes, *labels, cutoffs, recall_ks),
        "raw_embeddings": _measure(by_embeddings, *labels, cutoffs, recall_ks),
        "soft_items": {"mAP": None if gap else _measure_soft(quantizer, query, database)},
        "coded_queries": {"mAP": None if gap else _measure_coded(quantizer, query, database)},
        "prefixes": _measure_prefixes(quantizer, tables, query.labels, database),
        "neighbour_recall": measure_neighbours(quantizer, all_queries.embeddings, database),
        "bits_per_code": quantizer.bits_per_code,
        "codebook_usage": float(chosen.mean()),
        "unlabelled_queries": len(all_queries.labels) - len(query.labels),
        "not_measured": gap,
    }


def score_both(
    quantizer: QuantizerLike, queries: np.ndarray, database: Encoded
) -> tuple[Scores, Scores]:
    """How embeddings `[queries, embedding_dim]` score the items: by codes, by raw embeddings."""
    tables = ops.convert_to_numpy(quantizer.lookup_tables(queries))
    by_embeddings = _score_embeddings(quantizer, queries, database.embeddings)
    return _score_codes(tables, database.codes), by_embeddings


def score_codes(tables: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Scores `[queries, items]` of codes, from the queries' lookup tables."""
    return ops.convert_to_numpy(adc_scores(ops.convert_to_tensor(tables), codes))


def find_label_gap(query_labels: np.ndarray, database_labels: np.ndarray) -> str | None:
    """Why no figure can say how well the queries are answered; None if one can.

    Args:
        query_labels: As `keep_labelled` leaves them.
        database_labels: Labels of all items, -1 without one.
    """
    if not len(query_labels) or not find_labelled(database_labels).any():
        return "the items have no labels"
    if len(np.unique(database_labels, axis=0)) == 1:
        return "all items have the same label"
    return None


def require_labels(query_labels: np.ndarray, database_labels: np.ndarray) -> None:
    """Raises ValueError where `find_label_gap` finds one."""
    gap = find_label_gap(query_labels, database_labels)
    if gap is not None:
        raise ValueError(f"Items of two or more labels are needed. Received: {gap}")


def _measure_soft(quantizer: QuantizerLike, query: Encoded, database: Encoded) -> float | None:
    """mAP against items that are reconstructed as in training."""
    items = apply_in_chunks(
        lambda chunk: quantizer.quantize_embeddings(chunk, training=True).reconstruction,
        database.embeddings,
    )
    scores = _score_embeddings(quantizer, query.embeddings, items)
    return _measure(scores, query.labels, database.labels, (), ())["mAP"]


def _measure_coded(quantizer: QuantizerLike, query: Encoded, database: Encoded) -> float | None:
    """mAP of queries that are coded too."""
    tables = ops.convert_to_numpy(quantizer.lookup_tables(quantizer.decode(query.codes)))
    return mean_average_precision(tables, query.labels, database.codes, database.labels)


def _measure_prefixes(
    quantizer: QuantizerLike, tables: np.ndarray, query_labels: np.ndarray, database: Encoded
) -> list[dict[str, Any]]:
    """Figures of the first levels alone, one level, two, .. all; none without levels."""
    if quantizer.num_levels == 1 or quantizer.code_length % quantizer.num_levels:
        # Where the norm has a position of its own, it is that of all levels.
        return []
    per_level = quantizer.code_length // quantizer.num_levels
    figures = []
    for num_levels in range(1, quantizer.num_levels + 1):
        length = num_levels * per_level
        mean = mean_average_precision(
            tables[:, :length], query_labels, database.codes[:, :length], database.labels
        )
        bits = quantizer.bits_per_code * num_levels / quantizer.num_levels
        figures.append({"num_levels": num_levels, "bits_per_code": bits, "mAP": mean})
    return figures


def mean_average_precision(
    tables: np.ndarray, query_labels: np.ndarray, codes: np.ndarray, labels: np.ndarray
) -> float | None:
    """mAP over full rankings of codes `[items, code_length]`, from the queries' lookup tables.

    None where labels tell nothing.
    """
    return _measure(_score_codes(tables, codes), query_labels, labels, (), ())["mAP"]


def _score_codes(tables: np.ndarray, codes: np.ndarray) -> Scores:
    return lambda rows: score_codes(tables[rows], codes)


def _score_embeddings(quantizer: QuantizerLike, queries: np.ndarray, items: np.ndarray) -> Scores:
    """By inner products, or where the quantizer goes by distance, by what ranks alike."""
    goes_by_distance = quantizer.similarity == "l2"
    offsets = 0.5 * np.square(items).sum(axis=1) if goes_by_distance else np.float32(0.0)
    return lambda rows: np.asarray(queries[rows] @ items.T - offsets)


def measure_neighbours(
    quantizer: QuantizerLike, queries: np.ndarray, database: Encoded
) -> dict[str, float]:
    """Share of a query's exact nearest items that a search by codes finds, by `"n@k"`.

    Args:
        quantizer: What gave the codes.
        queries: Raw embeddings `[queries, embedding_dim]`; at most 1,000 are asked, evenly spread.
        database: The items. There may be fewer than n or k.
    """
    queries = queries[spread(len(queries), NEIGHBOUR_QUERIES)]
    by_codes, by_embeddings = score_both(quantizer, queries, database)
    shares = np.zeros(len(NEIGHBOURS))
    for rows in query_blocks(len(queries), len(database.codes)):
        exact, found = (
            find_nearest(scores(rows), max(NEIGHBOURS)[1]) for scores in (by_embeddings, by_codes)
        )
        for place, (n, k) in enumerate(NEIGHBOURS):
            hits = (exact[:, :n, None] == found[:, None, :k]).any(axis=2)
            shares[place] += hits.mean(axis=1).sum()
    shares /= len(queries)
    return {f"{n}@{k}": float(share) for (n, k), share in zip(NEIGHBOURS, shares, strict=True)}


def find_nearest(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest scores of each row, best first; of equal scores the first ones.

    Args:
        scores: `[queries, items]`, larger is nearer.
        k: At least 1; with fewer items all are given.

    Returns:
        int64 `[queries, min(k, items)]`.
    """
    k = min(k, scores.shape[1])
    least = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    rows = []
    for row, bound in zip(scores, least, strict=True):
        candidates = np.flatnonzero(row >= bound)
        rows.append(candidates[np.argsort(-row[candidates], kind="stable")[:k]])
    return np.array(rows)


def query_blocks(num_queries: int, num_items: int) -> Iterator[slice]:
    """Yields the queries in blocks whose scores may be held at once."""
    block = max(1, SCORES_PER_BLOCK // num_items)
    for start in range(0, num_queries, block):
        yield slice(start, start + block)


def relevance_blocks(
    query_labels: np.ndarray, database_labels: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields the queries of a block, and what is relevant to each: boolean `[queries, items]`."""
    for rows in query_blocks(len(query_labels), len(database_labels)):
        relevance = ops.convert_to_numpy(label_relevance(query_labels[rows], database_labels))
        yield rows, relevance & find_labelled(database_labels)


def _measure(
    scores: Scores,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    cutoffs: Sequence[int],
    recall_ks: Sequence[int],
) -> dict[str, Any]:
    """The figures of one way to score."""
    if find_label_gap(query_labels, database_labels):
        return {"mAP": None, "mAP@R": {}, "recall@k": {}}
    sums = np.zeros(1 + len(cutoffs) + len(recall_ks))
    ndcg_sums = np.zeros(len(recall_ks))
    for rows, relevance in relevance_blocks(query_labels, database_labels):
        block = scores(rows)
        if query_labels.ndim == 2 and recall_ks:
            ndcg_sums += _sum_ndcgs(block, query_labels[rows], database_labels, recall_ks)
        for ranking in rank_items(block, relevance):
            sums += [
                ranking.average_precision(),
                *(ranking.average_precision(cutoff) for cutoff in cutoffs),
                *(ranking.recall(k) for k in recall_ks),
            ]
    means = [float(mean) for mean in sums / len(query_labels)]
    figures = {
        "mAP": means[0],
        "mAP@R": dict(zip(map(str, cutoffs), means[1:], strict=False)),
        "recall@k": dict(zip(map(str, recall_ks), means[1 + len(cutoffs) :], strict=True)),
    }
    if query_labels.ndim == 2:
        ndcgs = (ndcg_sums / len(query_labels)).tolist()
        figures["NDCG@k"] = dict(zip(map(str, recall_ks), ndcgs, strict=True))
    return figures


def _sum_ndcgs(
    scores: np.ndarray, query_labels: np.ndarray, database_labels: np.ndarray, ks: Sequence[int]
) -> np.ndarray:
    """Sum of each NDCG@k over the queries of a block, whose labels are multi-hot."""
    # The share among the query's labels, times a number that NDCG does not depend on.
    gains = ops.convert_to_numpy(count_shared_labels(query_labels, database_labels))
    rankings = rank_gains(scores, gains)
    return np.sum([[ranking.ndcg(k) for k in ks] for ranking in rankings], axis=0)


def count_codewords(codes: np.ndarray, num_codewords: int) -> np.ndarray:
    """How many items choose each codeword: int64 `[code_length, num_codewords]`.

    Args:
        codes: Integers `[items, code_length]`.
        num_codewords: Number of codewords of each position.
    """
    return np.array([np.bincount(column, minlength=num_codewords) for column in codes.T])
