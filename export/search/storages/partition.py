"""Inverted lists: a collection parted by k-means on its reconstructions.

Codes add up: an item's reconstruction is a sum of one vector for each code position, and so is its
projection onto fewer dimensions. So beside the codes a few bytes per item are held in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import sklearn.cluster
import sklearn.exceptions

# Reconstructions held in memory at once.
ROWS_PER_BLOCK = 2**14
# What k-means learns from.
POINTS_PER_LIST = 64
MAX_POINTS = 2**18
NUM_ITERATIONS = 10
# The dimensions in which the reconstructions vary most; the others cost time and part little.
MAX_DIM = 64
# No list is longer by this factor than the mean, so that none dominates a search.
MAX_LENGTH_RATIO = 4

# Of what k-means learns from, and begins with.
SEED = 0

Progress = Callable[[int, int], None]


class Partition(NamedTuple):
    """A collection in lists, each item in one.

    Attributes:
        centroids: float32 `[num_lists, embedding_dim]`, the mean reconstructions of the lists.
        order: int32 `[num_items]`, positions, list after list. Those nearest to the centroid come
            first: `top_k` takes less time where the best of a query do.
        splits: int64 `[num_lists + 1]`, where each list begins and ends in `order`.
        by_distance: Whether scores go by distance: then lists are ranked by that of the centroid,
            else by the centroid's direction.
    """

    centroids: np.ndarray
    order: np.ndarray
    splits: np.ndarray
    by_distance: bool = False

    @property
    def num_lists(self) -> int:
        return len(self.centroids)

    @property
    def norms(self) -> np.ndarray:
        """float32 `[num_lists]`, lengths of the centroids, never 0."""
        norms = np.linalg.norm(self.centroids, axis=1)
        return np.maximum(norms, np.finfo(np.float32).tiny).astype(np.float32)

    @property
    def directions(self) -> np.ndarray:
        """float32 `[num_lists, embedding_dim]`, the centroids at unit length.

        A list that spans several clusters has a short centroid, though its items are as near to a
        query as others: by their directions such lists are not looked at last.
        """
        return self.centroids / self.norms[:, np.newaxis]

    @property
    def rank_vectors(self) -> np.ndarray:
        """float32 `[num_lists, embedding_dim]`, whose product with a query ranks the lists."""
        return self.centroids if self.by_distance else self.directions

    @property
    def rank_offsets(self) -> np.ndarray:
        """float32 `[num_lists]`, what is taken from that product."""
        return 0.5 * np.square(self.norms) if self.by_distance else np.zeros_like(self.norms)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.splits)

    @property
    def list_of_item(self) -> np.ndarray:
        """int32 `[num_items]`, the list of each position."""
        lists = np.empty(len(self.order), np.int32)
        lists[self.order] = np.repeat(np.arange(self.num_lists), self.lengths)
        return lists


def build_partition(
    vectors: np.ndarray,
    codes: np.ndarray,
    num_lists: int,
    progress: Progress | None = None,
    *,
    by_distance: bool = False,
    weights: np.ndarray | None = None,
) -> Partition:
    """Part a collection by k-means.

    There may be more lists than `num_lists` in the end, as long ones are cut, or fewer, as empty
    ones are left out.

    Args:
        vectors: What each codeword adds, see `Codebooks.vectors`.
        codes: Integers `[num_items, code_length]`.
        num_lists: Lists to make, at most as many as items.
        progress: Is told how many of how many items have their list.
        by_distance: See `Partition`.
        weights: Integers `[num_items]`: in k-means and in the means each code counts so many times.
            Each counts once if None.
    """
    weights = np.ones(len(codes), np.int32) if weights is None else weights
    tell = progress or (lambda done, total: None)
    tell(0, len(codes))
    centres, projected = _train(vectors, codes, weights, num_lists)
    # Of the squared distances what differs between centres.
    offsets = 0.5 * np.square(centres).sum(axis=1)
    list_of_item = np.empty(len(codes), np.int32)
    for rows in _blocks(len(codes)):
        scores = _sum_vectors(projected, codes[rows]) @ centres.T
        scores -= offsets
        list_of_item[rows] = scores.argmax(axis=1)
        tell(rows.stop, len(codes))
    return _group(vectors, codes, weights, list_of_item, by_distance)


def _train(
    vectors: np.ndarray, codes: np.ndarray, weights: np.ndarray, num_lists: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of clusters, and what each codeword adds in the space of the centres."""
    rng = np.random.default_rng(SEED)
    # Not weights in k-means: half as many lists find as much that begin where the items are.
    repeated = np.repeat(np.arange(len(codes)), weights)
    num_points = min(POINTS_PER_LIST * num_lists, max(MAX_POINTS, num_lists), len(repeated))
    sample = codes[repeated[np.sort(rng.choice(len(repeated), num_points, replace=False))]]
    points = _sum_vectors(vectors, sample[:ROWS_PER_BLOCK])
    points -= points.mean(axis=0)
    _, directions = np.linalg.eigh(points.T @ points)
    projected = vectors @ directions[:, ::-1][:, :MAX_DIM]
    points = np.concatenate([_sum_vectors(projected, sample[rows]) for rows in _blocks(num_points)])
    kmeans = sklearn.cluster.KMeans(
        num_lists, init="random", n_init=1, max_iter=NUM_ITERATIONS, random_state=SEED
    )
    with warnings.catch_warnings():
        # Of equal points there are fewer clusters, and so fewer lists.
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        kmeans.fit(points)
    return kmeans.cluster_centers_.astype(np.float32), projected


def _group(
    vectors: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray,
    list_of_item: np.ndarray,
    by_distance: bool,
) -> Partition:
    """Sort the items by list; leave out empty lists and cut long ones."""
    order = np.argsort(list_of_item, kind="stable").astype(np.int32)
    lengths = np.bincount(list_of_item)
    lengths = lengths[lengths > 0]
    longest = max(MAX_LENGTH_RATIO * len(codes) // len(lengths), 1)
    pieces = [_cut(length, longest) for length in lengths]
    splits = np.concatenate([[0], np.cumsum(np.concatenate(pieces))]).astype(np.int64)
    bounds = zip(splits[:-1], splits[1:], strict=True)
    members = [order[start:end] for start, end in bounds]
    centroids = np.stack([_average(vectors, codes[own], weights[own]) for own in members])
    for own, centroid in zip(members, centroids, strict=True):
        entries = vectors @ centroid
        if by_distance:
            # As if the codewords of an item had nothing in common: the order need not be exact.
            entries -= 0.5 * np.square(vectors).sum(axis=2)
        scores = _sum_vectors(entries[:, :, np.newaxis], codes[own])[:, 0]
        own[:] = own[np.argsort(-scores, kind="stable")]
    return Partition(centroids, order, splits, by_distance)


def _cut(length: int, longest: int) -> np.ndarray:
    """Lengths of nearly equal pieces, none longer than `longest`."""
    num_pieces = -(-length // longest)
    return np.diff(np.arange(num_pieces + 1) * length // num_pieces)


def _average(vectors: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the reconstructions, float32 `[embedding_dim]`."""
    counts = weights.astype(np.float32)
    total = sum(
        (_sum_vectors(vectors, codes[rows]) * counts[rows, np.newaxis]).sum(axis=0, dtype=float)
        for rows in _blocks(len(codes))
    )
    return (total / weights.sum()).astype(np.float32)


def _sum_vectors(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums float32 `[rows, dim]` of the vectors that codes `[rows, code_length]` name."""
    sums = vectors[0][codes[:, 0]]
    for position in range(1, codes.shape[1]):
        sums += vectors[position][codes[:, position]]
    return sums


def _blocks(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, ROWS_PER_BLOCK):
        yield slice(start, min(start + ROWS_PER_BLOCK, num_rows))
