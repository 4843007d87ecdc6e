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
from search_collections import Collection, Settings, make_collection
from search_engines import Answer, Engine, Export

from tfpqn.export.loading.native_loader import NativeLoader

EXHAUSTIVE, PARTITIONED = "ours-exhaustive", "ours-partitioned"
# Whose time an engine's is divided by.
PEERS = {EXHAUSTIVE: "faiss-pq", "ours-c-api": "faiss-pq", PARTITIONED: "faiss-ivfpq"}
# Parted by the package as well; short codes are searched by distinct code.
WITH_LISTS = ("clustered", "cifar10-64")


@dataclasses.dataclass
class Bench:
    """The engines of a case, ready to search.

    Attributes:
        collection: What is searched.
        exports: Our folders by engine.
        engines: Those whose way does not depend on the batch size.
        settings: What was chosen for some of them.
        found: Their answers to all queries.
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
        export.figures["search_peak_mb"] = {
            str(size): figures.measure_memory(export.path, collection.queries[:size])
            for size in sorted({min(settings.queries), max(settings.queries)})
        }
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
    """Our folders: with all items scored, and with lists where the package makes some."""
    exports = {
        EXHAUSTIVE: engines.export_collection(collection, folder / "full" / "1", None, settings)
    }
    if name in WITH_LISTS:
        lists = settings.lists or "auto"
        export = engines.export_collection(collection, folder / "lists" / "1", lists, settings)
        if export.searcher.num_lists is not None:
            exports[PARTITIONED] = export
    return exports


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
    scann = open_scann(stack, collection, exports, settings)
    settings_of: dict[str, dict[str, Any]] = {}
    if isinstance(scann, str):
        not_measured["scann"] = scann
    else:
        opened["scann"], settings_of["scann"] = scann
    if name in WITH_LISTS:
        opened["faiss-fastscan"] = engines.make_faiss_fastscan(collection, settings.top_k)
    else:
        not_measured["faiss-fastscan"] = "not measured: no embeddings, or codes not of 64 bits"
    if PARTITIONED not in exports:
        not_measured["faiss-ivfpq"] = "not measured: no search over lists of ours beside it"
    found = {way: figures.search_all(engine, collection.queries) for way, engine in opened.items()}
    brute_force = None
    if collection.draw is None:
        not_measured["brute-force"] = "not measured: random codes have no embeddings"
    elif engines.fits_brute_force(collection, min(settings.queries)):
        brute_force = engines.make_brute_force(stack, collection, settings.top_k)
    else:
        not_measured["brute-force"] = "not measured: embeddings and scores take more than 6 GB"
    lists = open_faiss_lists(collection, exports, settings)
    bench = Bench(
        collection, exports, opened, settings_of, found, lists, [], brute_force, not_measured
    )
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
    num_own = exports[PARTITIONED].figures["storage"]["num_lists"]
    counts = engines.choose_faiss_list_counts(len(collection.codes), num_own)
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


def open_scann(
    stack: ExitStack, collection: Collection, exports: Mapping[str, Export], settings: Settings
) -> tuple[Engine, dict[str, Any]] | str:
    """ScaNN with as many lists as ours has, and what was chosen; or why not.

    Its codes are others than ours, so it agrees with its own search of all lists.
    """
    if PARTITIONED not in exports:
        return "not measured: no search over lists of ours beside it"
    if settings.scann_python is None:
        return "not measured: no --scann-python"
    if len(collection.codes) >= engines.MANY_ITEMS:
        return "not measured: no room for its copies of the embeddings"
    export = exports[PARTITIONED]
    num_lists = export.figures["storage"]["num_lists"]
    server = engines.ScannServer(
        settings.scann_python, collection, export.path.parent, num_lists, settings
    )
    stack.enter_context(server)
    queries = collection.queries
    full = figures.search_all(server.with_probes(num_lists), queries)

    def measure(num_probes: int) -> float:
        return figures.measure_recall(
            full["ids"], figures.search_all(server.with_probes(num_probes), queries)
        )

    wanted = export.figures["storage"]["agreement"]
    choice = figures.find_probes(measure, num_lists, wanted)
    if choice is None:
        return "not measured: no number of probes agrees as well as ours"
    return server.with_probes(choice["num_probes"]), choice | server.about


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
    times = figures.time_engines(timed, queries, batch_size, settings.repeats)
    for way, peer in PEERS.items():
        if way in times and peer in times:
            ratio = figures.median_ms(times[way]) / figures.median_ms(times[peer])
            times[way] |= {"peer": peer, "ratio": ratio}
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
        # The scores of ScaNN's own codes are others.
        if way != "scann":
            quality[way]["agreement"] = figures.measure_agreement(collection, full, answer)
    if collection.draw is not None:
        nearest = figures.find_by_embeddings(collection, settings.top_k)
        for way, answer in found.items():
            quality[way]["recall"] = figures.measure_recall(nearest, answer)
    return quality


def draw_curve(bench: Bench, settings: Settings) -> list[dict[str, Any]]:
    """Time against agreement, for ours and for the index of FAISS with the most similar lists."""
    searcher = bench.exports[PARTITIONED].searcher
    counts = list(bench.faiss_lists)
    nearest = min(counts, key=lambda count: abs(np.log2(count / searcher.num_lists)))
    index = bench.faiss_lists[nearest]
    ways = {
        PARTITIONED: functools.partial(engines.probe_lists, searcher),
        "faiss-ivfpq": lambda probes: engines.search_faiss(index, settings.top_k, probes),
    }
    numbers = {PARTITIONED: searcher.num_lists, "faiss-ivfpq": nearest}
    points = figures.measure_curve(
        bench.collection, bench.found["faiss-pq"], ways, settings.repeats
    )
    return [{**point, "num_lists": numbers[point["engine"]]} for point in points]
