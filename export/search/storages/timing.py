"""Which of several storages answers fastest: their times on queries, taken in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ..codebooks import Codebooks
from ..neighbours import Neighbours
from .storage import Queries, Storage

# Queries that come together. A server has both: one at a time, and those that it merges.
BATCH_SIZES = (1, 32)
# Turns of one batch size end after so many, or after so many seconds, but not before so few.
MAX_TURNS, SECONDS, MIN_TURNS = 31, 2.0, 3
# A figure that is larger by less than this factor is no worse.
NEAR_TIE = 1.1

Search = Callable[[np.ndarray], Neighbours]


def make_search(codebooks: Codebooks, storage: Storage, code_length: int, top_k: int) -> Search:
    """The search of a storage as a graph, from embeddings float32 `[queries, embedding_dim]`."""
    signature = [tf.TensorSpec([None, codebooks.embedding_dim], tf.float32)]

    @tf.function(input_signature=signature, autograph=False)
    def search(embeddings: tf.Tensor) -> Neighbours:
        tables = codebooks.make_tables(embeddings)[:code_length]
        return storage.find(Queries(embeddings, tables), top_k)

    # Traced at once: TensorFlow warns of many functions that are traced when they are called.
    return search.get_concrete_function()


def time_storages(
    codebooks: Codebooks,
    storages: Sequence[Storage],
    code_length: int,
    top_k: int,
    queries: np.ndarray,
) -> np.ndarray:
    """Median milliseconds `[storages, batch sizes]` of a search with `BATCH_SIZES` queries."""
    searches = [make_search(codebooks, storage, code_length, top_k) for storage in storages]
    return np.stack([time_searches(searches, queries, size) for size in BATCH_SIZES], axis=1)


def time_searches(searches: Sequence[Search], queries: np.ndarray, size: int) -> np.ndarray:
    """Median milliseconds `[searches]` with so many of the queries together, taken in turn."""
    for search in searches:
        search(queries[:1].repeat(size, axis=0))
    seconds: list[list[float]] = []
    end = time.perf_counter() + SECONDS
    while len(seconds) < MIN_TURNS or (len(seconds) < MAX_TURNS and time.perf_counter() < end):
        rows = (len(seconds) * size + np.arange(size)) % len(queries)
        seconds.append([_time(search, queries[rows]) for search in searches])
    return 1000 * np.median(seconds, axis=0)


def _time(search: Search, batch: np.ndarray) -> float:
    # The first call finds the caches full of what the other storages left there.
    search(batch)
    start = time.perf_counter()
    search(batch)
    return time.perf_counter() - start


def choose_fastest(figures: np.ndarray) -> int:
    """The best row of `[storages, figures]`: by the first figure, near ties by the next ones."""
    left = np.arange(len(figures))
    for column in figures.T:
        left = left[column[left] <= NEAR_TIE * column[left].min()]
    return int(left[0])
