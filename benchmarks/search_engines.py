"""The engines of the benchmark of the search: from queries to ids and scores."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import tensorflow as tf
from search_collections import (
    TRAINING_ROWS,
    Collection,
    Settings,
    split_rows,
)

from tfpqn.export import Searcher, save_searcher
from tfpqn.export.loading.loaders import ServedModel, SessionLoader
from tfpqn.export.loading.native_loader import DISABLE_XLA, LIBRARY_NAMES
from tfpqn.export.model.version_folder import read_manifest
from tfpqn.export.search.storages.storage import Queries

# Embeddings and scores that brute force may hold.
BRUTE_FORCE_BYTES = 6e9
# What k-means of FAISS learns from, as in `tfpqn.export.search.storages.partition`.
POINTS_PER_LIST = 64
MAX_POINTS = 2**18
LISTS_PER_ROOT = (1, 2)
# From so many items on a single number of lists is tried with FAISS.
MANY_ITEMS = 5_000_000

# `ids` and `scores`, each `[queries, top_k]`, best first.
Answer = dict[str, np.ndarray]
Engine = Callable[[np.ndarray], Answer]


class Export(NamedTuple):
    """An exported folder.

    Attributes:
        path: The folder.
        figures: Its size, and what building it took.
        searcher: What was written.
    """

    path: Path
    figures: dict[str, Any]
    searcher: Searcher


# Ours


def disable_xla() -> None:
    """Forbid XLA in this process, as the stock server does."""
    folder = Path(tf.sysconfig.get_lib())
    path = next(folder / name for name in LIBRARY_NAMES if (folder / name).is_file())
    getattr(ctypes.CDLL(str(path)), DISABLE_XLA)()


def export_collection(
    collection: Collection, path: Path, partition: Any, settings: Settings
) -> Export:
    """Write a version folder and tell time and memory of building the searcher."""
    index = collection.make_index()
    before = reset_peak()
    start = time.perf_counter()
    searcher = Searcher(
        collection.network,
        index,
        top_k=settings.top_k,
        partition=partition,
        tuning_queries=None if partition is None else collection.tuning_queries,
    )
    figures: dict[str, Any] = {
        "build_seconds": time.perf_counter() - start,
        "build_peak_mb": read_memory("VmHWM") - before,
    }
    save_searcher(searcher, path)
    manifest = read_manifest(path)
    storage = {name: value for name, value in manifest["storage"].items() if name != "curve"}
    figures |= {"storage": storage, "bytes_per_item": manifest["bytes_per_item"]}
    return Export(path, figures, searcher)


def serve(model: ServedModel) -> Engine:
    """The signature that takes embeddings."""
    return lambda queries: model.run("search_by_embedding", {"embeddings": queries})


def open_session(stack: ExitStack, path: Path) -> Engine:
    return serve(stack.enter_context(SessionLoader(path)))


def open_graph(stack: ExitStack) -> Any:
    """A session of the present graph, which does not become the default one."""
    session = tf.compat.v1.Session()
    stack.callback(session.close)
    return session


def probe_lists(searcher: Searcher, num_probes: int) -> Engine:
    """Our search over lists with another number of probes."""

    @tf.function(autograph=False)
    def find(queries: tf.Tensor) -> Any:
        tables = searcher.codebooks.make_tables(queries)
        found = searcher.storage.find(Queries(queries, tables, None, num_probes), searcher.top_k)
        return {"ids": found.positions, "scores": found.scores}

    def search(queries: np.ndarray) -> Answer:
        return {name: values.numpy() for name, values in find(tf.constant(queries)).items()}

    return search


# FAISS


def make_faiss_pq(collection: Collection, top_k: int) -> Engine:
    """`IndexPQ` with the same codebooks and codes; nothing is trained."""
    code_length, num_codewords, _ = collection.codebooks.shape
    bits = num_codewords.bit_length() - 1
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexPQ(collection.embedding_dim, code_length, bits, metric)
    faiss.copy_array_to_vector(collection.codebooks.ravel(), index.pq.centroids)
    index.is_trained = True
    for rows in split_rows(len(collection.codes)):
        packed = faiss.pack_bitstrings(collection.codes[rows].astype(np.int32), bits)
        index.add_sa_codes(packed)
    return search_faiss(index, top_k)


def make_faiss_fastscan(collection: Collection, top_k: int) -> Engine:
    """`IndexPQFastScan` of as many bits in positions of 4, with codebooks of its own."""
    num_bits = collection.codes.shape[1] * 8
    index = faiss.IndexPQFastScan(
        collection.embedding_dim, num_bits // 4, 4, faiss.METRIC_INNER_PRODUCT
    )
    for number, (_, embeddings) in enumerate(collection.embedding_blocks()):
        if number == 0:
            index.train(embeddings[:TRAINING_ROWS])
        index.add(embeddings)
    return search_faiss(index, top_k)


def make_faiss_ivf(collection: Collection, num_lists: int, seed: int) -> Any:
    """`IndexIVFPQ` with the same codebooks; its lists are those of FAISS."""
    dim = collection.embedding_dim
    code_length, num_codewords, _ = collection.codebooks.shape
    # Spherical k-means is what FAISS itself takes with inner products.
    kmeans = faiss.Kmeans(
        dim, num_lists, niter=10, seed=seed + 1, spherical=True, max_points_per_centroid=10**9
    )
    rng = np.random.default_rng(seed)
    num_points = min(POINTS_PER_LIST * num_lists, MAX_POINTS, len(collection.codes))
    sample = np.sort(rng.choice(len(collection.codes), num_points, replace=False))
    kmeans.train(collection.reconstruct(collection.codes[sample]))
    coarse = faiss.IndexFlatIP(dim)
    coarse.add(kmeans.centroids)
    bits = num_codewords.bit_length() - 1
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQ(coarse, dim, num_lists, code_length, bits, metric)
    index.by_residual = False
    faiss.copy_array_to_vector(collection.codebooks.ravel(), index.pq.centroids)
    index.is_trained = True
    for rows in split_rows(len(collection.codes)):
        # The nearest codewords of a reconstruction are its own.
        index.add(collection.reconstruct(collection.codes[rows]))
    return index


def choose_faiss_list_counts(num_items: int, num_own_lists: int) -> list[int]:
    """Numbers of lists to try with FAISS."""
    if num_items >= MANY_ITEMS:
        return [2 ** round(np.log2(num_own_lists))]
    root = 2 ** round(np.log2(num_items) / 2)
    return [ratio * root for ratio in LISTS_PER_ROOT]


def search_faiss(
    index: Any, top_k: int, num_probes: int | None = None, parallel_mode: int = 0
) -> Engine:
    """One index with one setting."""

    def search(queries: np.ndarray) -> Answer:
        if num_probes is not None:
            index.nprobe, index.parallel_mode = num_probes, parallel_mode
        scores, positions = index.search(queries, top_k)
        return {"ids": positions, "scores": scores}

    return search


# Raw embeddings


def fits_brute_force(collection: Collection, num_queries: int) -> bool:
    """Whether raw embeddings and the scores of so many queries may be held."""
    per_item = 4 * (collection.embedding_dim + num_queries)
    return len(collection.codes) * per_item <= BRUTE_FORCE_BYTES


def make_brute_force(stack: ExitStack, collection: Collection, top_k: int) -> Engine:
    """Products with all raw embeddings and `top_k` in a session, as in TensorFlow Recommenders."""
    shape = (len(collection.codes), collection.embedding_dim)
    with tf.Graph().as_default():
        # Filled in one go: of a variable that was changed in part, TensorFlow reads a copy.
        values = tf.compat.v1.placeholder(tf.float32, shape)
        items = tf.Variable(values, trainable=False)
        queries = tf.compat.v1.placeholder(tf.float32, [None, shape[1]])
        scores, positions = tf.math.top_k(tf.matmul(queries, items, transpose_b=True), top_k)
        session = open_graph(stack)
        embeddings = np.empty(shape, np.float32)
        for rows, block in collection.embedding_blocks():
            embeddings[rows] = block
        session.run(items.initializer, {values: embeddings})

    def search(batch: np.ndarray) -> Answer:
        found_scores, found = session.run([scores, positions], {queries: batch})
        return {"ids": found, "scores": found_scores}

    return search


# Peers


def write_embeddings(collection: Collection, exports: Mapping[str, Export]) -> Path:
    """A file of all embeddings beside the folders, float32 `[num_items, embedding_dim]`."""
    path = next(iter(exports.values())).path.parent / "embeddings.npy"
    shape = (len(collection.codes), collection.embedding_dim)
    file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for rows, block in collection.embedding_blocks():
        file[rows] = block
    file.flush()
    return path


# Memory


def reset_peak() -> float:
    """Count the peak of memory anew, and return the present memory in MB."""
    gc.collect()
    # Memory that is freed but still held would hide what comes.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return read_memory("VmRSS")


def read_memory(name: str) -> float:
    """One figure of this process in MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024
