"""What the benchmark of the search measures: times in turn, agreement, recall, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_collections import Collection
from search_engines import (
    Answer,
    Engine,
    read_memory,
    reset_peak,
    search_faiss,
)

from tfpqn.export.loading.native_loader import NativeLoader

WARM_UPS = 2
# A slow batch size has fewer turns, but not fewer than these.
MIN_TURNS = 5
SECONDS_PER_BATCH_SIZE = 90.0
QUERIES_AT_ONCE = 32
# Items whose scores are as near as this may stand for one another.
TIE = 1e-4
# Recall of more items is measured on fewer queries.
MANY_ITEMS = 5_000_000
FEW_QUERIES = 64
NUM_PROBES = (1, 2, 4, 8, 16, 32)
CURVE_BATCHES = (1, 32)
TRIALS = 5
MEMORY_TURNS = 5


# Times


def time_engines(
    engines: Mapping[str, Engine],
    queries: np.ndarray,
    batch_size: int,
    repeats: int,
    seconds_in_all: float = SECONDS_PER_BATCH_SIZE,
) -> dict[str, dict[str, Any]]:
    """Quartiles of the times of all engines for one batch size, taken in turn.

    In its turn an engine answers two batches in a row: the first finds the caches full of what the
    others left, the second as a server that does nothing else.
    """
    started, rounds = time.perf_counter(), []
    for turn in range(WARM_UPS + repeats):
        rows = (np.arange(2 * batch_size) + 2 * turn * batch_size) % len(queries)
        batches = queries[rows[:batch_size]], queries[rows[batch_size:]]
        rounds.append(take_turns(engines, batches, turn))
        is_late = time.perf_counter() - started > seconds_in_all
        if is_late and turn + 1 >= WARM_UPS + MIN_TURNS:
            break
    counted = rounds[WARM_UPS:]
    times: dict[str, dict[str, Any]] = {}
    for name in engines:
        own = np.array([seconds[name] for seconds in counted])
        first, second = 1000 * np.quantile(own, (0.25, 0.5, 0.75), axis=0).T
        times[name] = {
            "quartiles_ms": second.tolist(),
            "first_quartiles_ms": first.tolist(),
            "turns": len(counted),
        }
    return times


def take_turns(
    engines: Mapping[str, Engine], batches: Sequence[np.ndarray], turn: int
) -> dict[str, list[float]]:
    """Seconds of each engine for the same batches; another one begins at each turn."""
    seconds, names = {}, list(engines)
    for place in range(len(names)):
        name = names[(place + turn) % len(names)]
        seconds[name] = []
        for batch in batches:
            start = time.perf_counter()
            engines[name](batch)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ms(times: Mapping[str, Any]) -> float:
    return times["quartiles_ms"][1]


# Agreement and recall


def search_all(engine: Engine, queries: np.ndarray) -> Answer:
    """The answers to all queries, some at a time."""
    batches = [
        engine(queries[start : start + QUERIES_AT_ONCE])
        for start in range(0, len(queries), QUERIES_AT_ONCE)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in ("ids", "scores")}


def measure_agreement(collection: Collection, full: Answer, found: Answer) -> float:
    """Share of the items found that score at least as well as the last item of a full search.

    The scores are summed anew from the codes; an item that is found twice counts once.
    """
    scores = collection.score_items(collection.queries, np.maximum(found["ids"], 0))
    last = full["scores"].min(axis=1, keepdims=True)
    is_good = (scores >= last - TIE) & (found["ids"] >= 0) & is_first(found["ids"])
    return float(is_good.mean())


def is_first(ids: np.ndarray) -> np.ndarray:
    """Whether an id stands for the first time in its row."""
    result = np.zeros(ids.shape, bool)
    for row, own in enumerate(ids):
        result[row, np.unique(own, return_index=True)[1]] = True
    return result


def find_by_embeddings(collection: Collection, top_k: int) -> np.ndarray:
    """Ids `[queries, top_k]` of the items with the nearest embeddings."""
    is_large = len(collection.codes) >= MANY_ITEMS
    queries = collection.queries[: FEW_QUERIES if is_large else None]
    scores = np.empty((len(queries), 0), np.float32)
    ids = np.empty((len(queries), 0), np.int64)
    for rows, embeddings in collection.embedding_blocks():
        numbers = np.broadcast_to(np.arange(rows.start, rows.stop), (len(queries), len(embeddings)))
        scores = np.concatenate([scores, queries @ embeddings.T], axis=1)
        ids = np.concatenate([ids, numbers], axis=1)
        if scores.shape[1] > top_k:
            best = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
            scores = np.take_along_axis(scores, best, axis=1)
            ids = np.take_along_axis(ids, best, axis=1)
    return ids


def measure_recall(nearest: np.ndarray, found: Answer) -> float:
    """Share of the nearest items that are found; of the queries for which these are known."""
    pairs = zip(nearest, found["ids"], strict=False)
    return float(np.mean([np.isin(own, ids).mean() for own, ids in pairs]))


# Peers over lists


def find_probes(
    measure: Callable[[int], float], num_lists: int, wanted: float
) -> dict[str, Any] | None:
    """The fewest probes with which a search over lists agrees as wanted; None if none do."""
    low, high = 1, 1
    while (agreement := measure(high)) < wanted:
        if high >= num_lists:
            return None
        low, high = high + 1, min(2 * high, num_lists)
    while low < high:
        middle = (low + high) // 2
        measured = measure(middle)
        if measured >= wanted:
            high, agreement = middle, measured
        else:
            low = middle + 1
    return {"num_lists": num_lists, "num_probes": high, "agreement": agreement}


def choose_faiss(
    indexes: Mapping[int, Any],
    choices: list[dict[str, Any]],
    queries: np.ndarray,
    batch_size: int,
    top_k: int,
) -> tuple[dict[str, Any], Engine]:
    """Of lists and probes that agree enough the fastest for a batch size."""
    # FAISS shares out queries among threads, or the lists of each query.
    candidates = [{**choice, "parallel_mode": mode} for choice in choices for mode in (0, 1)]
    engines = {
        str(number): search_faiss(
            indexes[own["num_lists"]], top_k, own["num_probes"], own["parallel_mode"]
        )
        for number, own in enumerate(candidates)
    }
    times = time_engines(engines, queries, batch_size, TRIALS)
    best = min(engines, key=lambda number: median_ms(times[number]))
    return candidates[int(best)], engines[best]


def measure_curve(
    collection: Collection,
    full: Answer,
    nearest: np.ndarray | None,
    ways: Mapping[str, Callable[[int], Engine]],
    repeats: int,
) -> list[dict[str, Any]]:
    """Time, agreement and recall of engines that are given a number of probes."""
    points = []
    for num_probes in NUM_PROBES:
        engines = {name: with_probes(num_probes) for name, with_probes in ways.items()}
        times = {
            batch: time_engines(engines, collection.queries, batch, repeats)
            for batch in CURVE_BATCHES
        }
        for name, engine in engines.items():
            found = search_all(engine, collection.queries)
            points.append(
                {
                    "engine": name,
                    "num_probes": num_probes,
                    "agreement": measure_agreement(collection, full, found),
                    "recall": None if nearest is None else measure_recall(nearest, found),
                    "quartiles_ms": {
                        str(batch): own[name]["quartiles_ms"] for batch, own in times.items()
                    },
                }
            )
    return points


# Memory


def measure_memory(path: Path, queries: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Peak memory in MB of a search above the loaded folder, by number of queries.

    Measured in a process of its own, from the fewest queries to the most.
    """
    file = path.parent / "queries.npy"
    np.save(file, queries)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("search.py")
    words = (script, "--measure-memory", path, file, *sizes)
    command = [sys.executable, *map(str, words)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def watch_memory(path: str, file: str, *sizes: str) -> dict[str, float]:
    """What that process does."""
    queries, peaks = np.load(file), {}
    with NativeLoader(Path(path)) as model:
        before = reset_peak()
        for size in sizes:
            for _ in range(MEMORY_TURNS):
                model.run("search_by_embedding", {"embeddings": queries[: int(size)]})
            peaks[size] = read_memory("VmHWM") - before
    return peaks
