"""Equal answers of FAISS and of this package, for every kind of index, both ways.

    python benchmarks/faiss_bridge.py

10^5 vectors around random centres, 1,000 queries, the best 10. Files that `to_faiss` has made are
read and searched by a process of its own that imports FAISS alone. Of each kind: the share of
places that hold the same id, the share of found items that are the same in any order, and the
largest difference of a score. Writes benchmarks/results/faiss_bridge.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from environment import describe_machine

import tfpqn
from tfpqn.export import Searcher, from_faiss, read_faiss_ids, to_faiss
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import ProductQuantization, ResidualProductQuantization

OUTPUT = Path(__file__).parent / "results" / "faiss_bridge.json"
DIM, NUM_QUERIES, TOP_K = 32, 1000, 10
NUM_TRAINED = 5000
SEARCH = (
    "import faiss, numpy, sys\n"
    "file, queries, found = sys.argv[1:]\n"
    f"values, ids = faiss.read_index(file).search(numpy.load(queries), {TOP_K})\n"
    "numpy.savez(found, values=values, ids=ids)\n"
)
# From items and queries to figures.
Measure = Callable[[np.ndarray, np.ndarray], dict[str, Any]]
# Name in the factory of FAISS, and whether distances or products are compared.
L2, PRODUCT = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
FAISS_KINDS = (
    ("PQ8", L2),
    ("PQ8", PRODUCT),
    ("PQ16x4", L2),
    ("PCA16,PQ8", L2),
    ("OPQ8_16,PQ8", L2),
    ("L2norm,PQ8", L2),
    ("IDMap,PQ8", L2),
    ("IVF256,PQ8", L2),
    ("IVF256,PQ8", PRODUCT),
    ("RQ6x8", PRODUCT),
    ("PRQ2x3x8", PRODUCT),
    ("RQ6x8_Nqint8", L2),
    ("PRQ2x3x8_Ncqint8", L2),
    ("RQ6x8", L2),
    ("PQ16x4fs", L2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    machine = describe_machine(("tensorflow", "keras", "numpy", "faiss-cpu"))
    vectors = draw_vectors(arguments.items + NUM_QUERIES)
    items, queries = vectors[NUM_QUERIES:], vectors[:NUM_QUERIES]
    rows: list[dict[str, Any]] = []
    for name, measure in make_cases():
        rows.append({"kind": name, **measure(items, queries)})
        print(json.dumps(rows[-1]), flush=True)
        content = {
            "command": f"python benchmarks/faiss_bridge.py --items {arguments.items}",
            **machine,
            "queries": NUM_QUERIES,
            "top_k": TOP_K,
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")


def draw_vectors(number: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(500, DIM))
    vectors = centres[rng.integers(len(centres), size=number)]
    return np.asarray(vectors + 0.5 * rng.normal(size=vectors.shape), np.float32)


def make_cases() -> Iterator[tuple[str, Measure]]:
    for similarity in ("l2", "cosine", "dot"):
        for num_levels in (1, 2):
            for options in ({}, {"partition": 256, "num_probes": 16}):
                levels = f", {num_levels} levels" if num_levels > 1 else ""
                name = f"to FAISS: {similarity}{levels}{', lists' if options else ''}"
                yield name, case_to(similarity, num_levels, options)
    yield "to FAISS: l2, 16 codewords", case_to("l2", 1, {}, num_codewords=16)
    yield "to FAISS: l2, FastScan", case_to("l2", 1, {}, num_codewords=16, fast_scan=True)
    for name, metric in FAISS_KINDS:
        yield (
            f"from FAISS: {name}, {'L2' if metric == L2 else 'inner product'}",
            case_from(name, metric),
        )


def case_to(
    similarity: str,
    num_levels: int,
    options: Any,
    num_codewords: int = 256,
    fast_scan: bool = False,
) -> Callable[[np.ndarray, np.ndarray], dict[str, Any]]:
    def measure(items: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
        network = fit_network(similarity, num_levels, num_codewords, items)
        codes = encode(network, items)
        index = CodeIndex(network_layout(network), codes, 3 * np.arange(len(codes)) + 1)
        searcher = Searcher(network, index, top_k=TOP_K, **options)
        made = to_faiss(network, index, searcher=searcher if options else None, fast_scan=fast_scan)
        values, ids = search_elsewhere(made, queries)
        return compare(searcher, queries, values, ids, similarity)

    return measure


def case_from(name: str, metric: int) -> Measure:
    def measure(items: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
        made = train_faiss(name, metric, items)
        values, ids = made.search(queries, TOP_K)
        network, codes = from_faiss(made)
        index = CodeIndex(network_layout(network), codes, read_faiss_ids(made))
        searcher = Searcher(network, index, top_k=TOP_K)
        return compare(searcher, queries, values, ids, network.quantizer.similarity)

    return measure


def fit_network(similarity: str, num_levels: int, num_codewords: int, items: np.ndarray) -> Any:
    """A network with a rotation, and few rounds of k-means: it need not find well."""
    if num_levels > 1:
        quantizer = ResidualProductQuantization(num_levels, 4, num_codewords, similarity=similarity)
    else:
        quantizer = ProductQuantization(8, num_codewords, similarity=similarity)
    network = tfpqn.models.ProductQuantizationNetwork(None, quantizer, None, rotation=True)
    network.build((None, DIM))
    tfpqn.training.fit_vectors(network, items[:NUM_TRAINED], iterations=2)
    return network


def encode(network: Any, items: np.ndarray) -> np.ndarray:
    starts = range(0, len(items), 10_000)
    return np.concatenate([np.asarray(network.encode(items[n : n + 10_000])) for n in starts])


def train_faiss(name: str, metric: int, items: np.ndarray) -> Any:
    made = faiss.index_factory(DIM, name, metric)
    if "IVF" in name:
        lists = faiss.extract_index_ivf(made)
        lists.by_residual, lists.nprobe = False, lists.nlist
    shorten(made)
    made.train(items[:NUM_TRAINED])
    if "IDMap" in name:
        made.add_with_ids(items, 3 * np.arange(len(items)) + 1)
    else:
        made.add(items)
    return made


def shorten(made: Any) -> None:
    """Few rounds of training: what is found need not be good."""
    inner = faiss.downcast_index(made)
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexIDMap):
        if isinstance(inner, faiss.IndexPreTransform):
            transform = faiss.downcast_VectorTransform(inner.chain.at(0))
            if isinstance(transform, faiss.OPQMatrix):
                transform.niter = 2
        inner = faiss.downcast_index(inner.index)
    coders = [getattr(inner, name) for name in ("pq", "rq") if hasattr(inner, name)]
    if hasattr(inner, "prq"):
        numbers = range(inner.prq.nsplits)
        coders += [faiss.downcast_Quantizer(inner.prq.subquantizer(n)) for n in numbers]
    for coder in coders:
        coder.cp.niter = 2


def search_elsewhere(made: Any, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances or products, and ids, as a fresh process finds them in the file."""
    with tempfile.TemporaryDirectory() as folder:
        file, asked, found = (str(Path(folder) / name) for name in ("i.faiss", "q.npy", "f.npz"))
        faiss.write_index(made, file)
        np.save(asked, queries)
        subprocess.run([sys.executable, "-c", SEARCH, file, asked, found], check=True)
        with np.load(found) as arrays:
            return arrays["values"], arrays["ids"]


def compare(
    searcher: Any, queries: np.ndarray, values: np.ndarray, ids: np.ndarray, similarity: str
) -> dict[str, Any]:
    own = searcher(queries)
    scores = {"l2": -values, "cosine": 1 - values / 2, "dot": values}[similarity]
    same = [len(np.intersect1d(*pair)) for pair in zip(own.ids, ids, strict=True)]
    return {
        "same_id_in_place": float(np.mean(own.ids == ids)),
        "same_items": float(np.mean(same) / TOP_K),
        "largest_score_difference": float(np.abs(own.scores - scores).max()),
        "largest_score": float(np.abs(own.scores).max()),
    }


if __name__ == "__main__":
    main()
