"""One scenario of the benchmark of the search at one size: all engines, all figures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import search_engines as engines
import search_figures as figures
from peers import Peer
from search_collections import Collection, Settings, make_collection
from search_engines import Answer, Engine, Export
from search_kernels import find_largest, trace_kernels

from tfpqn.export.loading.loaders import SessionLoader
from tfpqn.export.loading.native_loader import NativeLoader

EXHAUSTIVE, PARTITIONED = "ours-exhaustive", "ours-partitioned"
# Also in the form that the package chooses by itself; short codes are searched by distinct code.
WITH_LISTS = ("clustered", "cifar10-64")
# The longest list that a graph of usearch may keep.
MOST_EFFORT = 4096


@dataclasses.dataclass
class Bench:
    """The engines of a case, ready to search.

    Attributes:
        collection: What is searched.
        exports: Our folders by engine.
        engines: Those whose way does not depend on the batch size.
        settings: What was chosen for some of them.
        found: Their answers to all queries.
        nearest: Ids of the items with the nearest embeddings, `[queries, top_k]`, if these exist.
        faiss_lists: Indexes of FAISS by number of lists.
        faiss_choices: Lists and probes with which these agree as well as ours.
        brute_force: Search of the raw embeddings, if they fit.
        not_measured: Reasons by engine.
    """

    collection: Collection
    exports: dict[str, Export]
    engines: dict[str, Engine]
    settings: dict[str, dict[str, Any]]
    found: dict[str, Answer]
    nearest: np.ndarray | None
    faiss_lists: dict[int, Any]
    faiss_choices: list[dict[str, Any]]
    brute_force: Engine | None
    not_measured: dict[str, str]


def measure_case(name: str, num_items: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """All figures of one scenario and size."""
    collection = make_collection(name, num_items, settings)
    exports = export_folders(name, collection, folder, settings)
    with ExitStack() as stack:
        bench = open_bench(stack, name, collection, exports, settings)
        results = [compare(bench, batch_size, settings) for batch_size in settings.queries]
        quality = measure_quality(bench, results, settings)
        curve = []
        if bench.faiss_lists and num_items == settings.curve_items:
            curve = draw_curve(bench, settings)
    for export in exports.values():
        with SessionLoader(export.path) as model:
            kernels = trace_kernels(model, collection.queries[:1])
            export.figures.update(kernels=len(kernels), largest_op=find_largest(kernels))
        export.figures["search_peak_mb"] = figures.measure_memory(
            export.path, collection.queries, sorted({min(settings.queries), max(settings.queries)})
        )
    return {
        "description": collection.description,
        "items": num_items,
        "code_length": collection.codes.shape[1],
        "num_codewords": collection.codebooks.shape[1],
        "embedding_dim": collection.embedding_dim,
        "folders": {way: export.figures for way, export in exports.items()},
        "quality": quality,
        "results": results,
        "curve": curve,
        "not_measured": bench.not_measured,
    }


def export_folders(
    name: str, collection: Collection, folder: Path, settings: Settings
) -> dict[str, Export]:
    """Our folders: with all items scored, and in the form that the package chooses."""
    ways = {EXHAUSTIVE: None}
    if name in WITH_LISTS:
        ways[PARTITIONED] = settings.lists or "auto"
    return {
        way: engines.export_collection(collection, folder / way / "1", partition, settings)
        for way, partition in ways.items()
    }


def open_bench(
    stack: ExitStack,
    name: str,
    collection: Collection,
    exports: dict[str, Export],
    settings: Settings,
) -> Bench:
    """Open all engines and let them answer all queries once."""
    opened = {way: engines.open_session(stack, export.path) for way, export in exports.items()}
    if name == "random":
        native = NativeLoader(exports[EXHAUSTIVE].path)
        opened["ours-c-api"] = engines.serve(stack.enter_context(native))
    opened["faiss-pq"] = engines.make_faiss_pq(collection, settings.top_k)
    not_measured: dict[str, str] = {}
    if name in WITH_LISTS:
        opened["faiss-fastscan"] = engines.make_faiss_fastscan(collection, settings.top_k)
    else:
        not_measured["faiss-fastscan"] = "not measured: no embeddings, or codes not of 64 bits"
    if PARTITIONED not in exports:
        not_measured["faiss-ivfpq"] = "not measured: no search over lists of ours beside it"
    found = {way: figures.search_all(engine, collection.queries) for way, engine in opened.items()}
    nearest = None
    if collection.draw is not None:
        nearest = figures.find_by_embeddings(collection, settings.top_k)
    brute_force = None
    if collection.draw is None:
        not_measured["brute-force"] = "not measured: random codes have no embeddings"
    elif engines.fits_brute_force(collection, min(settings.queries)):
        brute_force = engines.make_brute_force(stack, collection, settings.top_k)
    else:
        not_measured["brute-force"] = "not measured: embeddings and scores take more than 6 GB"
    lists = open_faiss_lists(collection, exports, settings)
    bench = Bench(
        collection, exports, opened, {}, found, nearest, lists, [], brute_force, not_measured
    )
    open_peers(stack, bench, settings)
    bench.faiss_choices = choose_probes(bench, settings)
    if lists and not bench.faiss_choices:
        not_measured["faiss-ivfpq"] = "not measured: no number of probes agrees as well as ours"
    return bench


def open_faiss_lists(
    collection: Collection, exports: Mapping[str, Export], settings: Settings
) -> dict[int, Any]:
    """Indexes of FAISS over lists, beside a search over lists of ours."""
    if PARTITIONED not in exports:
        return {}
    counts = engines.choose_faiss_list_counts(
        len(collection.codes), count_lists(exports, collection)
    )
    return {count: engines.make_faiss_ivf(collection, count, settings.seed) for count in counts}


def choose_probes(bench: Bench, settings: Settings) -> list[dict[str, Any]]:
    """For each index over lists the fewest probes with which it agrees as well as ours."""
    if not bench.faiss_lists:
        return []
    full = bench.found["faiss-pq"]
    wanted = figures.measure_agreement(bench.collection, full, bench.found[PARTITIONED])

    def measure(index: Any, num_probes: int) -> float:
        engine = engines.search_faiss(index, settings.top_k, num_probes)
        found = figures.search_all(engine, bench.collection.queries)
        return figures.measure_agreement(bench.collection, full, found)

    choices = [
        figures.find_probes(functools.partial(measure, index), count, wanted)
        for count, index in bench.faiss_lists.items()
    ]
    return [choice for choice in choices if choice is not None]


def open_peers(stack: ExitStack, bench: Bench, settings: Settings) -> None:
    """Add the engines of another environment, or the reasons why they are not there."""
    file = None
    for name in settings.peers:
        if settings.scann_python is None or PARTITIONED not in bench.exports:
            reason = "no --scann-python" if settings.scann_python is None else "no lists of ours"
            bench.not_measured[name] = f"not measured: {reason}"
            continue
        file = file or engines.write_embeddings(bench.collection, bench.exports)
        try:
            peer = Peer(
                settings.scann_python,
                name,
                file,
                settings.top_k,
                settings.threads,
                metric="dot_product",
                bytes=bench.collection.codes.shape[1],
                lists=count_lists(bench.exports, bench.collection),
            )
        except RuntimeError as error:
            bench.not_measured[name] = f"not measured: {error}"
            continue
        stack.callback(peer.close)
        setting = choose_effort(bench, name, peer)
        engine = functools.partial(peer.search, effort=setting.get("num_probes", 1))
        bench.engines[name], bench.settings[name] = engine, setting | peer.about
        bench.found[name] = figures.search_all(engine, bench.collection.queries)


def choose_effort(bench: Bench, name: str, peer: Peer) -> dict[str, Any]:
    """The least effort with which a peer serves as well as ours, or else the greatest.

    Codes of ScaNN are its own: it agrees with its own search of all lists. The graph of usearch
    finds as many of the nearest embeddings. Turbovec always scores all items.
    """
    if name == "turbovec":
        return {}
    own, full = bench.found[PARTITIONED], bench.found["faiss-pq"]
    queries, nearest = bench.collection.queries, bench.nearest
    if name == "scann":
        most = count_lists(bench.exports, bench.collection)
        wanted = figures.measure_agreement(bench.collection, full, own)
        nearest = figures.search_all(functools.partial(peer.search, effort=most), queries)["ids"]
    else:
        most, wanted = MOST_EFFORT, figures.measure_recall(nearest, own)

    def measure(effort: int) -> float:
        engine = functools.partial(peer.search, effort=effort)
        return figures.measure_recall(nearest, figures.search_all(engine, queries))

    choice = figures.find_probes(measure, most, wanted) or {"num_probes": most}
    return choice if name == "scann" else {"num_probes": choice["num_probes"]}


def count_lists(exports: Mapping[str, Export], collection: Collection) -> int:
    """Lists of ours; about the square root of the items where the package chose another form."""
    return exports[PARTITIONED].searcher.num_lists or int(len(collection.codes) ** 0.5)


def compare(bench: Bench, batch_size: int, settings: Settings) -> dict[str, Any]:
    """Times of all engines for one batch size."""
    queries, timed = bench.collection.queries, dict(bench.engines)
    chosen = None
    if bench.faiss_choices:
        chosen, timed["faiss-ivfpq"] = figures.choose_faiss(
            bench.faiss_lists, bench.faiss_choices, queries, batch_size, settings.top_k
        )
    fits = engines.fits_brute_force(bench.collection, batch_size)
    if bench.brute_force is not None and fits:
        timed["brute-force"] = bench.brute_force
    times = figures.time_engines(timed, queries, batch_size, settings.repeats, settings.seconds)
    chosen_ones = bench.settings | ({} if chosen is None else {"faiss-ivfpq": chosen})
    for way, setting in chosen_ones.items():
        times[way]["setting"] = setting
    return {"queries": batch_size, "engines": times}


def measure_quality(
    bench: Bench, results: list[dict[str, Any]], settings: Settings
) -> dict[str, dict[str, float]]:
    """Agreement with a full search, and recall of the nearest embeddings, of each engine."""
    collection, found = bench.collection, dict(bench.found)
    if bench.faiss_choices:
        chosen = results[0]["engines"]["faiss-ivfpq"]["setting"]
        index = bench.faiss_lists[chosen["num_lists"]]
        engine = engines.search_faiss(index, settings.top_k, chosen["num_probes"])
        found["faiss-ivfpq"] = figures.search_all(engine, collection.queries)
    full = found["faiss-pq"]
    quality: dict[str, dict[str, float]] = {way: {} for way in found}
    for way, answer in found.items():
        # Those of a peer are not ours, nor are the codes.
        if way not in bench.settings:
            quality[way]["agreement"] = figures.measure_agreement(collection, full, answer)
        if bench.nearest is not None:
            quality[way]["recall"] = figures.measure_recall(bench.nearest, answer)
    return quality


def draw_curve(bench: Bench, settings: Settings) -> list[dict[str, Any]]:
    """Time against agreement, for ours and for the index of FAISS with the most similar lists."""
    searcher = bench.exports[PARTITIONED].searcher
    if searcher.num_lists is None:
        return []
    counts = list(bench.faiss_lists)
    nearest = min(counts, key=lambda count: abs(np.log2(count / searcher.num_lists)))
    index = bench.faiss_lists[nearest]
    ways = {
        PARTITIONED: functools.partial(engines.probe_lists, searcher),
        "faiss-ivfpq": lambda probes: engines.search_faiss(index, settings.top_k, probes),
    }
    numbers = {PARTITIONED: searcher.num_lists, "faiss-ivfpq": nearest}
    points = figures.measure_curve(
        bench.collection, bench.found["faiss-pq"], bench.nearest, ways, settings.repeats
    )
    return [{**point, "num_lists": numbers[point["engine"]]} for point in points]
