"""The page docs/benchmarks.md and its pictures, from the JSON files of the benchmarks alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_pictures import METHODS, VECTORS, draw_recall, draw_second_stage, draw_times
from search_report import TITLES, divide, format_ms, write_details

PAGE_NAME = "benchmarks.md"
SHOWN_CANDIDATES = (0, 100, 400)
LISTS = ("faiss-ivfpq", "scann", "usearch", "faiss-fastscan", "turbovec", "brute-force")
ALL_ITEMS = ("faiss-pq", "faiss-fastscan", "turbovec", "brute-force")
# Name, scenario, items, our engine, the others beside it, and numbers of queries.
SEARCHES = (
    ("lists", "clustered", "1000000", "ours-partitioned", LISTS, (1, 8, 32, 128)),
    ("trained codes", "cifar10-64", "1000000", "ours-partitioned", LISTS, (1, 32)),
    ("all items", "clustered", "100000", "ours-exhaustive", ALL_ITEMS, (1, 32)),
    ("all items", "clustered", "1000000", "ours-exhaustive", ALL_ITEMS, (1, 32, 128)),
    ("all random codes", "random", "1000000", "ours-exhaustive", ALL_ITEMS, (1, 32, 128)),
)
HEAD = """\
# Benchmarks

How fast the exported search is beside other engines, and how many true neighbours its codes find.
`make bench` makes this page; do not edit it. [More figures](benchmarks-details.md) has quartiles,
memory, recall and settings of every row.

In short: FAISS is the fastest in lists. With many queries our lists and ScaNN's op take about as
long, with one query ours take less. Over all items ours and FAISS PQ are near each other. At equal
bytes our levels find more neighbours than each FAISS row measured. Choose tfpqn where network,
codes and search shall be one SavedModel that TensorFlow Serving runs.
"""
TIME = """\
## Time of a search

Each search finds the 100 nearest items; "tfpqn ms" is our median time. The other columns have our
time divided by the engine's: below 1 we are faster. The engine's milliseconds are in brackets.
"Lists" and "all items" hold made-up vectors of 128 dimensions that lie around random centres, in
codes of 8 bytes. "Trained codes" are 10,000 embeddings of CIFAR-10, each 100 times with a little
noise, by a network trained for two epochs. Rows of recall have the share of the 100 nearest
vectors that is found.

"""
ENGINES = """
FAISS IVFPQ and PQ have the same codes as ours. IVFPQ looks at the fewest lists that match a full
search at least as well as ours. ScaNN has as many lists and bits as ours. usearch searches a graph
of vectors in 8 bits a dimension. At its fastest setting it finds far more than ours, and stores
some 530 bytes an item where ours stores 16. Turbovec (2 bits a dimension, 36 bytes), fast scan
(16 positions of 4 bits) and brute force (float32) score all items. All use 2 threads, in turn.
Ours is the SavedModel in a TensorFlow 1 session, XLA off, as the stock server runs it.
"""
BYTES = """\
## Recall per byte

Codes fitted without labels: the share of the 10 exact nearest that are among the 10 found. Each
row spends the same bytes an item and scores all items.

"""
BYTES_NOTES = """
"levels" is `--model rpqn`, the default of `tfpqn train --vectors` without labels. After the fit
their codewords are moved for the ranking of neighbours, but for "fitted alone". Empty cells were
not measured.

- Fashion-MNIST: 60,000 images of pixels, 1,000 queries. CIFAR-10: 20,000 images as a frozen
  EfficientNet-Lite0 has them, 1,000 queries. SIFT: a small set of 5,000 vectors, 100 queries, so
  differences of .03 there mean little. Sentences: 20,000 verses of the American Standard Version as
  MiniLM embeds them, 1,000 queries. One seed each.
- FAISS RQ has a beam of 5, its default; our levels have one of 16. FAISS LSQ trains on fewer
  vectors with fewer rounds, to limit its time; on SIFT that costs more the longer the code is.
  ScaNN's codes are anisotropic on the CIFAR-10 features, which are compared by inner products.
- We chose the constants of rotation and levels on the queries of Fashion-MNIST: expect a little
  less elsewhere. Those of the ranking of neighbours were chosen on other queries.

`python benchmarks/vector_recall.py` measures these, in hours. `make bench` only shows them.
"""
FILTERS = """\
## Filters

A filter admits a share of 1,000,000 clustered items in lists. Cells: milliseconds of a search for
the 10 nearest, and in brackets that time divided by the same engine's without a filter. Ours are
the signatures `search` and `search_with_filters`. It looks at twice as many lists where half of the
items are admitted, and at the admitted items alone where they are few. FAISS looks at the fewest
lists that find .99 of the best admitted items. The queries of a batch have the same filter. The
processor had no AVX-512: all engines took longer than in the tables above.

"""
SECOND_STAGE = """\
## Second stage

`tfpqn export --rerank`: codes of 8 or 16 bytes find candidates in lists, and embeddings of half
precision rank the best of them again. Cells: recall 10@10, and milliseconds of one core for 1 and
for 32 queries. Lists look at part of the items, so recall without a second stage is below that in
"Recall per byte". Compare times within one set of vectors: Fashion-MNIST was measured on a slower
processor, without AVX-512.

"""
AGAIN = """\
## Measure again

    make bench BENCH="--data-dir DIR --scann-python ENV/bin/python"

It takes some 20 minutes on 2 cores that do nothing else; the first time it also trains the network
of the trained codes. DIR is a folder of tensorflow-datasets with CIFAR-10 and Fashion-MNIST. ENV
is an environment with the engines that need one of their own:

    python -m venv ENV && ENV/bin/pip install 'scann[tf]' usearch turbovec

Without DIR or ENV their rows are left out, with a line that says so. When one part fails, the
others go on. `python benchmarks/bench.py --parts lists filters` measures some parts,
`--docs` only writes the pages, `--small` tries all in some minutes.
`python benchmarks/search.py --scenarios clustered --sizes 10000000` measures 10^7 items, in half
an hour or more.
"""


def write_pages(results: Path, docs: Path) -> None:
    """Write both pages, and the pictures that there are figures for."""
    search = read(results / "search.json") or {"scenarios": {}}
    recall = (read(results / "vector_recall.json") or {"rows": []})["rows"]
    parts = [HEAD, TIME + format_searches(search["scenarios"]) + ENGINES]
    parts += draw_times(search["scenarios"], docs)
    parts += [BYTES + format_recall(recall) + BYTES_NOTES, *draw_recall(recall, docs)]
    if filters := read(results / "filters.json"):
        parts.append(FILTERS + format_filters(filters))
    if second := read(results / "second_stage.json"):
        parts.append(SECOND_STAGE + format_second_stage(second["rows"]))
        parts += draw_second_stage(second["rows"], docs)
    parts += [AGAIN, format_machines(search["scenarios"])]
    (docs / PAGE_NAME).write_text("\n".join(parts))
    avx2 = read(results / "search_avx2.json") or {"scenarios": {}}
    search["scenarios"] |= {f"{name}, AVX2": own for name, own in avx2["scenarios"].items()}
    write_details(search, docs)


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# Times


def format_searches(scenarios: Mapping[str, Any]) -> str:
    """Our times, and what they are in parts of those of the others."""
    rows, columns = [], list(dict.fromkeys([*LISTS, *ALL_ITEMS]))
    for name, scenario, items, own, peers, batches in SEARCHES:
        case = scenarios.get(scenario, {}).get(items, {"results": []})
        for result in case["results"]:
            times = result["engines"]
            if result["queries"] not in batches or own not in times:
                continue
            cells = [format_ratio(times, own, peer) if peer in peers else "" for peer in columns]
            time = format_ms(times[own]["quartiles_ms"][1])
            rows.append([f"{name}, {int(items):,}", str(result["queries"]), time, *cells])
        found = case.get("quality", {})
        if "recall" in found.get(own, {}):
            ways = (own, *(peer if peer in peers else None for peer in columns))
            recalls = [found.get(way, {}).get("recall") for way in ways]
            cells = ["" if recall is None else f"{recall:.2f}" for recall in recalls]
            rows.append([f"{name}, {int(items):,}", "recall", *cells])
    titles = [TITLES[peer].split(",")[0] for peer in columns]
    return format_table(("search, items", "queries", "tfpqn ms", *titles), rows)


def format_ratio(times: Mapping[str, Any], own: str, peer: str) -> str:
    if peer not in times:
        return ""
    ratio = divide(times, own, peer)
    return f"{ratio:.2g} ({format_ms(times[peer]['quartiles_ms'][1])})"


def format_machines(scenarios: Mapping[str, Any]) -> str:
    """Where and when the times were taken."""
    machines = [case["machine"] for sizes in scenarios.values() for case in sizes.values()]
    if not machines:
        return ""
    loads = [machine["load_before"] for machine in machines]
    dates = sorted({machine["date"] for machine in machines})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{machines[0]['cpu']}, {machines[0]['cores']} cores, {days}; load {min(loads):.1f} to "
        f"{max(loads):.1f} before the cases.\n"
    )


# Recall


def format_recall(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each method, a column for each set of vectors and number of bytes."""
    found = {
        (row["vectors"], row["bytes"], row["method"]): row["recall"]
        for row in rows
        if row["vectors"] in VECTORS  # Not those of a file of one's own.
    }
    columns = sorted({key[:2] for key in found}, key=lambda key: (list(VECTORS).index(key[0]), key))
    lines = []
    for method in METHODS:
        values = [found.get((*column, method)) for column in columns]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        if any(cells):
            lines.append([method, *cells])
    titles = [f"{VECTORS[vectors].split(',')[0]}, {size} bytes" for vectors, size in columns]
    return format_table(("recall 10@10", *titles), lines)


# Filters and second stage


def format_filters(content: Mapping[str, Any]) -> str:
    """A line for each engine and number of queries, a column for each share admitted."""
    rows = content["filters"]
    shares = sorted({row["share"] for row in rows}, key=lambda share: -float(share.split()[0]))
    cells = {
        (row["engine"], row["queries"], row["share"]): "{} ({:.1f})".format(
            format_ms(row["quartiles_ms"][1]), row["to_no_filter"]
        )
        for row in rows
    }
    lines = [
        [engine, str(queries), *(cells.get((engine, queries, share), "") for share in shares)]
        for engine, queries in dict.fromkeys((row["engine"], row["queries"]) for row in rows)
    ]
    titles = ["no filter", *(f"{share} admitted" for share in shares[1:])]
    return format_table(("engine", "queries", *titles), lines)


def format_second_stage(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each engine and first stage, a column for each number of candidates."""
    lines = {}
    for row in rows:
        if row["num_candidates"] not in SHOWN_CANDIDATES:
            continue
        key = (f"{row['collection']}, {row['items']:,}", f"{row['engine']}, {row['first_stage']}")
        cells = lines.setdefault(key, {})
        times = " / ".join(format_ms(row[name][1]) for name in ("ms_1", "ms_32"))
        cells[row["num_candidates"]] = f"{row['recall']:.3f} ({times})"
        cells["bytes"] = f"{row['first_bytes'] + row['second_bytes']:.0f}"
    columns = ("bytes", *SHOWN_CANDIDATES)
    table = [[*key, *(cells.get(c, "") for c in columns)] for key, cells in lines.items()]
    titles = ("no second stage", *(f"{count} candidates" for count in SHOWN_CANDIDATES[1:]))
    return format_table(("vectors", "engine, first stage", "bytes an item", *titles), table)
