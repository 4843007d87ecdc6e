"""Codewords moved by gradient until codes rank neighbours as the vectors do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tfpqn.codebooks.joint_levels import CodeChooser, add_codewords, measure_error
from tfpqn.codebooks.levels import read_levels, write_levels
from tfpqn.codebooks.lloyd import sum_by_code
from tfpqn.layers.residual_product_quantization import ERROR_SHARE, ResidualProductQuantization

# All chosen by trials on a third of Fashion-MNIST, with other queries than those of the benchmark.
ROUNDS = 3
STEPS = 300
QUERIES_AT_ONCE = 64
NEIGHBOURS_OF_EACH = 12
# Without items that are no neighbours, codes of some would come too near to all queries.
OTHERS = 1024
# Vectors that serve as queries, how many of them only check, and the rank up to which neighbours
# are drawn.
MOST_QUERIES = 4000
CHECKS = 500
LAST_RANK = 100
# With fewer vectors each step would see most of them.
FEWEST_VECTORS = 4000
# Of the mean squared distance of the tenth neighbour.
TEMPERATURE = 1 / 5
# How far a codeword moves in a step at first, in parts of the root mean squared error.
STEP_LENGTH = 0.007
# Shares that the means of slopes and of their squares keep.
MEAN_KEPT, SQUARES_KEPT = 0.9, 0.99
# Distances of queries from all vectors that are in memory at a time.
DISTANCES_AT_ONCE = 2**24


class Neighbours(NamedTuple):
    """Vectors that serve as queries, and those nearest to them.

    Attributes:
        rows: `[num_queries]`, which vectors the queries are.
        nearest: `[num_queries, num_neighbours]` without the query; the ten nearest come first, in
            any order.
        tenth: Mean squared distance of the tenth.
    """

    rows: np.ndarray
    nearest: np.ndarray
    tenth: float

    def take(self, part: slice) -> Neighbours:
        """Those of some of the queries."""
        return self._replace(rows=self.rows[part], nearest=self.nearest[part])


def rank_neighbours(
    quantizer: ResidualProductQuantization,
    vectors: np.ndarray,
    codes: np.ndarray,
    rng: np.random.Generator,
    tell: Callable[[int, int], None],
) -> np.ndarray:
    """Move the codewords of levels so that raw queries rank coded items as they rank raw ones.

    A step takes some vectors as queries; its items are some of their neighbours, and others drawn
    from all. Softmax over minus the distances of the items, raw and coded, gives two distributions
    for each query, and codewords follow the gradient of their cross-entropy, with the codes as they
    are. After each round all vectors are coded anew. The codebooks stay by whose codes queries that
    had no part find most of their ten neighbours, so it may be those that there were. Labels have
    no part.

    Args:
        quantizer: A fitted one whose codes hold norms. Its norms are to be fitted afterwards.
        vectors: `[num_vectors, num_subspaces, subvector_dim]`, as scores compare them.
        codes: `[num_vectors, num_levels, num_subspaces]`, those of the vectors.
        rng: Source of the draws.
        tell: Called with the number of rounds done, and of all.

    Returns:
        Codes by the codebooks that stay. If vectors are too few, or have no errors, nothing moves.

    Reference:
        Yu, Yuan, Fang, Jin: "Product Quantization Network for Fast Image Retrieval", ECCV 2018, of
        raw anchors compared with quantized items. Distributions in place of triplets are ours.
    """
    levels = read_levels(quantizer)
    length = STEP_LENGTH * measure_error(levels, codes, vectors) ** 0.5
    if len(vectors) < FEWEST_VECTORS or not length:
        return codes
    queries = find_neighbours(vectors.reshape(len(vectors), -1), rng)
    if not queries.tenth > 0:
        return codes
    checks, queries = queries.take(slice(CHECKS)), queries.take(slice(CHECKS, None))
    chooser = CodeChooser(quantizer)
    best, best_codes, most = levels, codes, measure_recall(levels, codes, vectors, checks)
    for turn in range(ROUNDS):
        lengths = length * _fall(np.arange(turn * STEPS, (turn + 1) * STEPS) / (ROUNDS * STEPS))
        levels = move_codewords(levels, vectors, codes, queries, lengths, rng)
        write_levels(quantizer, levels)
        codes = chooser.choose(vectors)
        recall = measure_recall(levels, codes, vectors, checks)
        if recall > most:
            best, best_codes, most = levels, codes, recall
        tell(turn + 1, ROUNDS)
    write_levels(quantizer, best)
    return best_codes


def find_neighbours(vectors: np.ndarray, rng: np.random.Generator) -> Neighbours:
    """Some of the vectors `[num_vectors, dim]` as queries, and their exact neighbours."""
    rows = rng.permutation(len(vectors))[:MOST_QUERIES]
    nearest, tenths = [], []
    for distances in distances_in_chunks(vectors, rows, vectors):
        order = np.argpartition(distances, (9, LAST_RANK - 1), axis=1)[:, :LAST_RANK]
        nearest.append(order)
        tenths.append(np.take_along_axis(distances, order[:, 9:10], axis=1))
    return Neighbours(rows, np.concatenate(nearest), float(np.concatenate(tenths).mean()))


def measure_recall(
    levels: np.ndarray, codes: np.ndarray, vectors: np.ndarray, queries: Neighbours
) -> float:
    """Share of the ten nearest of queries that are among the ten found by codes of all vectors."""
    decoded = add_codewords(levels, codes)
    errors = ERROR_SHARE * np.square(vectors - decoded).sum(axis=(1, 2))
    flat, decoded = (rows.reshape(len(vectors), -1) for rows in (vectors, decoded))
    found: list[np.ndarray] = []
    for distances in distances_in_chunks(flat, queries.rows, decoded):
        found.extend(np.argpartition(distances + errors, 9, axis=1)[:, :10])
    pairs = zip(found, queries.nearest[:, :10], strict=True)
    return float(np.mean([np.isin(own, true).mean() for own, true in pairs]))


def distances_in_chunks(
    vectors: np.ndarray, rows: np.ndarray, items: np.ndarray
) -> Iterator[np.ndarray]:
    """Squared distances of some of the vectors from items, one for each; its own is infinite.

    Args:
        vectors: `[num_vectors, dim]`.
        rows: Which of them.
        items: `[num_vectors, dim]`.

    Yields:
        `[num_rows, num_vectors]` of the next rows, as many as fit in memory.
    """
    at_once = max(1, DISTANCES_AT_ONCE // len(vectors))
    squares = measure_squares(items)
    for start in range(0, len(rows), at_once):
        own = rows[start : start + at_once]
        distances = measure_distances(vectors[own], items, squares)
        distances[np.arange(len(own)), own] = np.inf
        yield distances


def measure_squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths of vectors, without squares of all their values in memory."""
    return np.einsum("nd,nd->n", vectors, vectors)


def measure_distances(
    queries: np.ndarray, items: np.ndarray, squares: np.ndarray | None = None
) -> np.ndarray:
    """Squared distances `[num_queries, num_items]`; `squares` if known are those of the items."""
    squares = measure_squares(items) if squares is None else squares
    return np.asarray(measure_squares(queries)[:, None] + squares - 2 * (queries @ items.T))


def measure_slopes(
    levels: np.ndarray,
    codes: np.ndarray,
    items: np.ndarray,
    queries: np.ndarray,
    is_same: np.ndarray,
    temperature: float,
) -> np.ndarray:
    """Gradient of the cross-entropy by the codewords, an array like `levels`.

    Args:
        levels: `[num_levels, num_subspaces, num_codewords, subvector_dim]`.
        codes: Of the items, `[num_items, num_levels, num_subspaces]`.
        items: `[num_items, num_subspaces, subvector_dim]`.
        queries: `[num_queries, dim]`.
        is_same: bool `[num_queries, num_items]`: the item is the query, and is left out.
        temperature: What divides distances.
    """
    flat = items.reshape(len(items), -1)
    decoded = add_codewords(levels, codes).reshape(flat.shape)
    lost = flat - decoded
    raw = measure_distances(queries, flat)
    coded = measure_distances(queries, decoded) + ERROR_SHARE * np.square(lost).sum(axis=1)
    # By the distance of each item from each query.
    slopes = _softmax(raw, is_same, temperature) - _softmax(coded, is_same, temperature)
    slopes /= temperature * len(queries)
    of_items = slopes.sum(axis=0)[:, None] * (decoded - ERROR_SHARE * lost) - slopes.T @ queries
    of_items = 2 * of_items.reshape(items.shape)
    gradient = np.empty_like(levels)
    for level, codebooks in enumerate(levels):
        for m, codebook in enumerate(codebooks):
            own = np.ascontiguousarray(of_items[:, m])
            gradient[level, m] = sum_by_code(own, codes[:, level, m], len(codebook))
    return gradient


def move_codewords(
    levels: np.ndarray,
    vectors: np.ndarray,
    codes: np.ndarray,
    neighbours: Neighbours,
    lengths: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Codewords after a step of each length: Adam, with one mean square for a whole codeword.

    So a rotation of the vectors rotates the steps, and coordinates that never vary never move.
    """
    flat = vectors.reshape(len(vectors), -1)
    temperature = TEMPERATURE * neighbours.tenth
    means, squares = np.zeros_like(levels), np.zeros((*levels.shape[:-1], 1), np.float32)
    for step, length in enumerate(lengths, start=1):
        queries, items = _draw(len(vectors), neighbours, rng)
        is_same = queries[:, None] == items
        slopes = measure_slopes(
            levels, codes[items], vectors[items], flat[queries], is_same, temperature
        )
        means += (1 - MEAN_KEPT) * (slopes - means)
        new = np.square(slopes).sum(axis=-1, keepdims=True)
        squares += (1 - SQUARES_KEPT) * (new - squares)
        size = np.sqrt(squares / (1 - SQUARES_KEPT**step))
        unit = means / (1 - MEAN_KEPT**step) / np.maximum(size, np.finfo(np.float32).tiny)
        levels = levels - np.float32(length) * unit
    return levels


def _draw(
    num_vectors: int, neighbours: Neighbours, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the queries and of the items of a step, each item once."""
    drawn = rng.choice(len(neighbours.rows), QUERIES_AT_ONCE, replace=False)
    ranks = rng.choice(LAST_RANK, NEIGHBOURS_OF_EACH, replace=False)
    others = rng.integers(num_vectors, size=OTHERS)
    near = neighbours.nearest[drawn][:, ranks].ravel()
    return neighbours.rows[drawn], np.unique(np.concatenate([near, others]))


def _softmax(distances: np.ndarray, is_same: np.ndarray, temperature: float) -> np.ndarray:
    """Shares `[num_queries, num_items]` by minus the distances."""
    distances = np.where(is_same, np.inf, distances)
    shares = np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _fall(done: np.ndarray) -> np.ndarray:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1 + np.cos(np.pi * done))
