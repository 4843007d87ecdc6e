"""Time of searches with filters beside other engines, and of finding items by their ids.

    python benchmarks/filters.py            # measures, writes the JSON, prints the tables
    python benchmarks/filters.py --small    # in seconds: few items, few turns
    python benchmarks/filters.py --table    # prints the tables of the JSON

The collection is that of `search.py --scenarios clustered`, in lists. An item has one of four tags,
drawn at random, so that filters admit 50 %, 1 % and .01 % of the items. All engines answer in turn,
with masks of items made beforehand where they take such. FAISS searches the same codes in as many
lists; it looks at the fewest of them that give it 99 % of the best items that are admitted. Where
turbovec is installed, it searches all vectors at 2 bits a dimension.

A search by id begins with the item's position. The time of that is measured for strings, beside a
comparison with all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import faiss
import numpy as np
import tensorflow as tf
from environment import describe_machine
from search_collections import Collection, make_clustered
from search_engines import disable_xla, make_faiss_ivf
from search_figures import TIE, is_first, time_engines

from tfpqn.export import Searcher, save_searcher
from tfpqn.export.loading.loaders import SessionLoader
from tfpqn.export.search.item_ids import ItemIds
from tfpqn.index import CodeIndex, network_layout
from tfpqn.layers import ProductQuantization
from tfpqn.models import ProductQuantizationNetwork

OUTPUT = Path(__file__).parent / "results" / "filters.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "faiss-cpu")
TOP_K, THREADS, SEED = 10, 2, 0
SHARES = {"50 %": 0.5, "1 %": 0.01, "0.01 %": 1e-4}
EVERYTHING, OURS, FAISS, TURBOVEC = "100 %", "tfpqn", "FAISS IVFPQ", "turbovec"
BATCH_SIZES = (1, 32)
WANTED_AGREEMENT = 0.99
TURBOVEC_BITS = 2

# From queries to ids `[queries, k]`.
Search = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--ids", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--lists", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--small", action="store_true", help="in seconds")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the tables of the JSON")
    arguments = parser.parse_args()
    if arguments.small:
        vars(arguments).update(items=20_000, ids=[20_000], lists=32, repeats=3)
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_tables(json.loads(arguments.output.read_text()))))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    # Read when the first device is made.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(THREADS)
    faiss.omp_set_num_threads(THREADS)
    disable_xla()
    machine = describe_machine(LIBRARIES)
    results = {
        "command": f"python benchmarks/filters.py --items {arguments.items} "
        f"--lists {arguments.lists} --repeats {arguments.repeats} "
        f"--ids {' '.join(map(str, arguments.ids))}",
        "items": arguments.items,
        "top_k": TOP_K,
        "num_lists": arguments.lists,
        "threads": THREADS,
        "machine": machine,
        "filters": measure_filters(arguments),
        "ids": [measure_ids(count, arguments.repeats) for count in arguments.ids],
    }
    return results | {"load_after": os.getloadavg()[0]}


# Filters


def measure_filters(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Quartiles of the times of each engine, share and batch size."""
    collection = make_clustered(arguments.items, SEED)
    bounds = np.cumsum(sorted(SHARES.values()))
    tags = np.searchsorted(bounds, np.random.default_rng(SEED).random(arguments.items))
    # A tag for each share, from the smallest, and one for what is left.
    masks = {EVERYTHING: np.ones(arguments.items, bool)}
    for tag, share in enumerate(sorted(SHARES, key=SHARES.__getitem__)):
        masks[share] = tags == tag
    with ExitStack() as stack:
        own = open_own(stack, collection, tags, arguments.lists)
        engines = {(OURS, share): own(share) for share in masks}
        exact = {share: find_exactly(collection, mask) for share, mask in masks.items()}

        def measure(share: str, engine: Search) -> float:
            return agree(collection, exact[share], engine(collection.queries))

        ivf = make_faiss_ivf(collection, arguments.lists, SEED)
        engines |= {
            (FAISS, share): choose_probes(ivf, mask, partial(measure, share))
            for share, mask in masks.items()
        }
        if importlib.util.find_spec("turbovec"):
            engines |= open_turbovec(collection, masks)
        agreements = {key: measure(key[1], engine) for key, engine in engines.items()}
        rows = []
        for size in BATCH_SIZES:
            times = time_engines(engines, collection.queries, size, arguments.repeats)
            for (name, share), own_times in times.items():
                quartiles = own_times["quartiles_ms"]
                rows.append(
                    {
                        "engine": name,
                        "share": share,
                        "queries": size,
                        "quartiles_ms": quartiles,
                        "to_no_filter": quartiles[1] / times[name, EVERYTHING]["quartiles_ms"][1],
                        "agreement": agreements[name, share],
                        "turns": own_times["turns"],
                    }
                )
    return rows


def open_own(
    stack: ExitStack, collection: Collection, tags: np.ndarray, num_lists: int
) -> Callable[[str], Search]:
    """The searches of an exported folder, by the share of items that they admit."""
    network = ProductQuantizationNetwork(
        None, ProductQuantization(*collection.codebooks.shape[:2]), None
    )
    network.build((None, collection.embedding_dim))
    network.quantizer.codebooks.assign(collection.codebooks)
    names = [*sorted(SHARES, key=SHARES.__getitem__), "other"]
    metadata = {"share": np.array(names)[tags]}
    ids = np.arange(len(tags))
    searcher = Searcher(
        network,
        CodeIndex(network_layout(network), collection.codes, ids, metadata),
        top_k=TOP_K,
        partition=num_lists,
        tuning_queries=collection.tuning_queries,
        tag_columns=["share"],
    )
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "1"
    save_searcher(searcher, path)
    model = stack.enter_context(SessionLoader(path))

    def with_filter(share: str) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            inputs = {"embeddings": queries}
            if share == EVERYTHING:
                return model.run("search", inputs)["ids"]
            allowed = np.full((len(queries), 1), f"share={share}", object)
            tags = {"allow_tags": allowed, "deny_tags": np.full_like(allowed, "")}
            return model.run("search_with_filters", inputs | tags)["ids"]

        return search

    return with_filter


def find_exactly(collection: Collection, mask: np.ndarray) -> np.ndarray:
    """Ids `[queries, top_k]` of the best of all items that are admitted; -1 where there are few."""
    code_length, num_codewords, _ = collection.codebooks.shape
    bits = num_codewords.bit_length() - 1
    index = faiss.IndexPQ(collection.embedding_dim, code_length, bits, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(collection.codebooks.ravel(), index.pq.centroids)
    index.is_trained = True
    positions = np.flatnonzero(mask)
    index.add_sa_codes(faiss.pack_bitstrings(collection.codes[positions].astype(np.int32), bits))
    _, found = index.search(collection.queries, TOP_K)
    return np.where(found < 0, -1, positions[found])


def choose_probes(index: Any, mask: np.ndarray, measure: Callable[[Search], float]) -> Search:
    """FAISS with the fewest lists, in powers of two, that agree as wanted; else with all."""
    selector = None if mask.all() else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def with_probes(num_probes: int) -> Search:
        parameters = faiss.SearchParametersIVF(nprobe=num_probes, sel=selector)
        return lambda queries: index.search(queries, TOP_K, params=parameters)[1]

    num_probes = 1
    while num_probes < index.nlist:
        if measure(with_probes(num_probes)) >= WANTED_AGREEMENT:
            break
        num_probes = min(2 * num_probes, index.nlist)
    return with_probes(num_probes)


def open_turbovec(
    collection: Collection, masks: dict[str, np.ndarray]
) -> dict[tuple[str, str], Search]:
    import turbovec

    index = turbovec.TurboQuantIndex(collection.embedding_dim, TURBOVEC_BITS)
    for _, embeddings in collection.embedding_blocks():
        index.add(embeddings)

    def with_mask(mask: np.ndarray) -> Search:
        chosen = None if mask.all() else mask
        return lambda queries: index.search(queries, TOP_K, mask=chosen)[1]

    return {(TURBOVEC, share): with_mask(mask) for share, mask in masks.items()}


def agree(collection: Collection, wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of the best items that are found, or others that score as much."""
    queries, found = collection.queries, found.astype(np.int64)
    scores, best = (
        np.where(ids < 0, -np.inf, collection.score_items(queries, np.maximum(ids, 0)))
        for ids in (found, wanted)
    )
    num_wanted = np.isfinite(best).sum(axis=1)
    last = np.where(np.isfinite(best), best, np.inf).min(axis=1, keepdims=True)
    is_good = (scores >= last - TIE) & is_first(found)
    return float((is_good.sum(axis=1) / num_wanted).mean())


# Ids


def measure_ids(count: int, repeats: int) -> dict[str, Any]:
    """Quartiles of the times in which strings are found, and memory beside them."""
    ids = np.char.mod("item-%d", np.random.default_rng(SEED).permutation(count)).astype(object)
    wanted = ids[np.random.default_rng(SEED + 1).integers(0, count, 256)]
    item_ids = ItemIds(ids, "string")
    engines = {OURS: _trace(item_ids.positions), "scan": _trace(partial(scan, item_ids.ids))}
    times = {
        str(size): {
            name: own["quartiles_ms"]
            for name, own in time_engines(engines, wanted, size, repeats).items()
        }
        for size in BATCH_SIZES
    }
    numbers = sum(v.shape.num_elements() * v.dtype.size for v in item_ids.variables[1:])
    return {"ids": count, "bytes_per_id": numbers / count, "quartiles_ms": times}


def scan(ids: tf.Variable, wanted: tf.Tensor) -> tf.Tensor:
    """The position of each id by a comparison with all of them."""
    return tf.map_fn(
        lambda one: tf.where(tf.equal(ids, one))[0, 0],
        wanted,
        fn_output_signature=tf.TensorSpec([], tf.int64),
    )


def _trace(function: Callable[[tf.Tensor], tf.Tensor]) -> Search:
    spec = tf.TensorSpec([None], tf.string)
    traced = tf.function(function, input_signature=[spec], autograph=False)
    return lambda ids: traced(tf.constant(ids)).numpy()


# Tables


def format_tables(content: dict[str, Any]) -> list[str]:
    machine = content["machine"]
    lines = [
        f"{content['items']:,} items in {content['num_lists']} lists, {machine['cores']} cores, "
        f"load {machine['load_before']:.1f} before and {content['load_after']:.1f} after",
        "",
        "| engine | queries | admitted | ms (quartiles) | to no filter | agreement |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in content["filters"]:
        low, median, high = row["quartiles_ms"]
        lines.append(
            f"| {row['engine']} | {row['queries']} | {row['share']} | {median:.2f} ({low:.2f} to "
            f"{high:.2f}) | {row['to_no_filter']:.1f} | {row['agreement']:.3f} |"
        )
    lines += [
        "",
        "| string ids | asked for | by bucket, ms | by a scan, ms |",
        "|---:|---:|---:|---:|",
    ]
    for row in content["ids"]:
        for size, times in row["quartiles_ms"].items():
            own, other = times[OURS][1], times["scan"][1]
            lines.append(f"| {row['ids']:,} | {size} | {own:.3f} | {other:.2f} |")
    return lines


if __name__ == "__main__":
    main()
