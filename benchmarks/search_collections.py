"""Collections for the benchmark of the search: codes, codebooks, embeddings and queries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import keras
import numpy as np

import tfpqn
from tfpqn.index import CodeIndex, network_layout

ROWS_PER_BLOCK = 2**16
TRAINING_ROWS = 2**16
NUM_QUERIES = 256
NUM_TUNING_QUERIES = 128
DIM = 128
# Of a collection of 10^6; others have as many more as its square root grows.
NUM_CENTRES = 2000
SPREAD = 0.5
# In parts of the standard deviation of each dimension.
TILING_NOISE = 0.05
# What a block of random numbers is drawn for.
ITEMS, QUERIES, TUNING, TRAINING = range(4)
# Code positions and codewords of each codebook.
CODES = {
    "random": (8, 256),
    "clustered": (8, 256),
    "cifar10-12": (2, 64),
    "cifar10-24": (4, 64),
    "cifar10-64": (8, 256),
}
DESCRIPTIONS = {
    "random": "Random codes and random codebooks; queries are random too.",
    "clustered": (
        f"{DIM}-dimensional embeddings around {{centres:,}} random centres, with a spread of "
        f"{SPREAD} of a standard normal; each of 8 subvectors scaled to unit length. Codebooks by "
        "k-means. Queries are drawn likewise and are not in the collection."
    ),
    "cifar10": (
        "{distinct:,} embeddings of the database images of a network trained on CIFAR-10, repeated "
        f"with noise of {TILING_NOISE} of the standard deviation of each dimension. Codebooks by "
        "k-means of the embeddings without repetition. Queries are the embeddings of query images."
    ),
}

# Kind, number of the block and rows: float32 embeddings `[rows, embedding_dim]`.
Draw = Callable[[int, int, int], np.ndarray]


class Settings(NamedTuple):
    """What all scenarios of a run have in common."""

    top_k: int = 100
    repeats: int = 20
    threads: int = 2
    seed: int = 0
    lists: int | None = None
    queries: tuple[int, ...] = (1, 8, 32, 128)
    curve_items: int = 1_000_000
    seconds: int = 90
    run_dir: Path | None = None
    data_dir: Path | None = None
    scann_python: Path | None = None
    peers: tuple[str, ...] = ()


@dataclasses.dataclass
class Collection:
    """A coded collection with queries in the form that search compares.

    Attributes:
        description: A sentence or two on where it comes from.
        network: A small network with its quantizer.
        codes: uint8 `[num_items, code_length]`.
        queries, tuning_queries: float32 `[queries, embedding_dim]`.
        draw: Makes the embeddings of a block of items, the same ones each time; None if there are
            only codes.
    """

    description: str
    network: Any
    codes: np.ndarray
    queries: np.ndarray
    tuning_queries: np.ndarray
    draw: Draw | None = None

    @property
    def embedding_dim(self) -> int:
        return self.network.quantizer.embedding_dim

    @functools.cached_property
    def codebooks(self) -> np.ndarray:
        """float32 `[code_length, num_codewords, subvector_dim]`."""
        return np.asarray(self.network.quantizer.unit_codebooks())

    def make_index(self) -> CodeIndex:
        """The codes with ids that count from 0, as those of FAISS do."""
        return CodeIndex(network_layout(self.network), self.codes, np.arange(len(self.codes)))

    def embedding_blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and embeddings of one block after another."""
        if self.draw is None:
            raise RuntimeError("A collection of random codes has no embeddings")
        for number, rows in enumerate(split_rows(len(self.codes))):
            yield rows, self.draw(ITEMS, number, rows.stop - rows.start)

    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        """The codewords that codes name, side by side: float32 `[rows, embedding_dim]`."""
        pairs = zip(self.codebooks, codes.T, strict=True)
        return np.concatenate([codewords[column] for codewords, column in pairs], axis=1)

    def score_items(self, queries: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Inner products `[queries, k]` of queries and reconstructions of items."""
        return np.stack(
            [
                self.reconstruct(self.codes[own]) @ query
                for query, own in zip(queries, positions, strict=True)
            ]
        )


def make_collection(name: str, num_items: int, settings: Settings) -> Collection:
    """One collection of a scenario."""
    keras.utils.set_random_seed(settings.seed)
    if name == "random":
        return make_random(num_items, settings.seed)
    if name == "clustered":
        return make_clustered(num_items, settings.seed)
    return make_tiled(name, num_items, settings)


def make_random(num_items: int, seed: int) -> Collection:
    """Random codes; there are no embeddings that they stand for."""
    code_length, num_codewords = CODES["random"]
    network = build_network(DIM, code_length, num_codewords)
    rng = np.random.default_rng(seed)
    network.quantizer.codebooks.assign(rng.normal(size=network.quantizer.codebooks.shape))
    codes = rng.integers(num_codewords, size=(num_items, code_length), dtype=np.uint8)
    queries = rng.standard_normal((NUM_QUERIES, DIM), np.float32)
    queries = normalize(queries, code_length)
    return Collection(DESCRIPTIONS["random"], network, codes, queries, queries)


def make_clustered(num_items: int, seed: int) -> Collection:
    """Embeddings around random centres."""
    code_length, num_codewords = CODES["clustered"]
    num_centres = max(round(NUM_CENTRES * (num_items / 1e6) ** 0.5), 2)
    shape = (num_centres, DIM)
    centres = np.random.default_rng(seed).standard_normal(shape, np.float32)

    def draw(kind: int, block: int, rows: int) -> np.ndarray:
        rng = np.random.default_rng([seed, kind, block])
        own = centres[rng.integers(num_centres, size=rows)]
        return normalize(own + SPREAD * rng.standard_normal((rows, DIM), np.float32), code_length)

    network = build_network(DIM, code_length, num_codewords)
    fit_codebooks(network, draw(TRAINING, 0, min(TRAINING_ROWS, max(num_items, 2**13))), seed)
    description = DESCRIPTIONS["clustered"].format(centres=num_centres)
    queries, tuning = draw(QUERIES, 0, NUM_QUERIES), draw(TUNING, 0, NUM_TUNING_QUERIES)
    return encode_items(description, network, num_items, queries, tuning, draw)


def make_tiled(name: str, num_items: int, settings: Settings) -> Collection:
    """The embeddings of a trained run, repeated with noise."""
    code_length, num_codewords = CODES[name]
    items, queries = (normalize(part, code_length) for part in read_run(settings))
    noise = TILING_NOISE * items.std(axis=0)

    def draw(kind: int, block: int, rows: int) -> np.ndarray:
        rng = np.random.default_rng([settings.seed, kind, block])
        own = items[(np.arange(rows) + block * ROWS_PER_BLOCK) % len(items)]
        own = own + noise * rng.standard_normal(own.shape, np.float32)
        return normalize(own, code_length)

    network = build_network(items.shape[1], code_length, num_codewords)
    fit_codebooks(network, items, settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(queries))
    num_tested = min(NUM_QUERIES, len(queries) // 2)
    tested, tuning = order[:num_tested], order[num_tested:][:NUM_TUNING_QUERIES]
    description = DESCRIPTIONS["cifar10"].format(distinct=len(items))
    return encode_items(description, network, num_items, queries[tested], queries[tuning], draw)


@functools.lru_cache(maxsize=1)
def read_run(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the database and of the queries of a trained run; kept for the next case."""
    from tfpqn.training import Run

    if settings.run_dir is None:
        raise ValueError("The collections of CIFAR-10 need --run-dir")
    run = Run.open(settings.run_dir)
    network = run.load_network()
    splits = run.load_splits(settings.data_dir)

    def embed(images: Any) -> np.ndarray:
        batches = images.batches(images.items_per_batch(256))
        outputs = [network.predict_on_batch(batch.images)["embeddings"] for batch in batches]
        return np.asarray(network.quantizer.normalize(np.concatenate(outputs)), np.float32)

    return embed(splits.database), embed(splits.query)


def build_network(dim: int, code_length: int, num_codewords: int) -> Any:
    """A small network of images with a quantizer of its own."""
    quantizer = tfpqn.layers.ProductQuantization(code_length, num_codewords)
    backbone = tfpqn.models.build_backbone("conv3", (32, 32, 3))
    return tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, dim)


def fit_codebooks(network: Any, embeddings: np.ndarray, seed: int) -> None:
    """Set codebooks to the centres of k-means by FAISS; the quantizer makes them unit vectors."""
    quantizer = network.quantizer
    num_bits = quantizer.num_codewords.bit_length() - 1
    pq = faiss.ProductQuantizer(quantizer.embedding_dim, quantizer.code_length, num_bits)
    pq.cp.seed = seed + 1
    pq.train(embeddings[:TRAINING_ROWS])
    quantizer.codebooks.assign(
        faiss.vector_to_array(pq.centroids).reshape(quantizer.codebooks.shape)
    )


def encode_items(
    description: str,
    network: Any,
    num_items: int,
    queries: np.ndarray,
    tuning_queries: np.ndarray,
    draw: Draw,
) -> Collection:
    """The collection with the nearest codewords of each embedding."""
    codes = np.empty((num_items, network.quantizer.code_length), np.uint8)
    collection = Collection(description, network, codes, queries, tuning_queries, draw)
    pq = make_pq(collection.codebooks)
    for rows, embeddings in collection.embedding_blocks():
        packed = pq.compute_codes(embeddings)
        codes[rows] = faiss.unpack_bitstrings(packed, pq.M, pq.nbits)
    return collection


def make_pq(codebooks: np.ndarray) -> Any:
    """A product quantizer of FAISS with our codebooks."""
    code_length, num_codewords, subvector_dim = codebooks.shape
    num_bits = num_codewords.bit_length() - 1
    pq = faiss.ProductQuantizer(code_length * subvector_dim, code_length, num_bits)
    faiss.copy_array_to_vector(codebooks.ravel(), pq.centroids)
    return pq


def normalize(embeddings: np.ndarray, num_subspaces: int) -> np.ndarray:
    """Each subvector of unit length, as the quantizers of the package have them."""
    subvectors = embeddings.reshape(len(embeddings), num_subspaces, -1)
    lengths = np.linalg.norm(subvectors, axis=2, keepdims=True)
    subvectors = subvectors / np.maximum(lengths, 1e-6)
    return subvectors.reshape(embeddings.shape).astype(np.float32, copy=False)


def split_rows(num_rows: int) -> Iterator[slice]:
    """The rows in blocks."""
    for start in range(0, num_rows, ROWS_PER_BLOCK):
        yield slice(start, min(start + ROWS_PER_BLOCK, num_rows))
