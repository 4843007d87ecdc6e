"""The page docs/benchmarks-details.md: every case of the benchmark of the search, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE_NAME = "benchmarks-details.md"
TITLES = {
    "ours-partitioned": "tfpqn, lists",
    "ours-exhaustive": "tfpqn, all items",
    "ours-c-api": "tfpqn, all items, C API",
    "faiss-ivfpq": "FAISS IVFPQ",
    "faiss-pq": "FAISS PQ",
    "faiss-fastscan": "FAISS PQ fast scan, 16 x 4 bits",
    "scann": "ScaNN",
    "usearch": "usearch, graph",
    "turbovec": "turbovec, all items",
    "brute-force": "brute force",
}
# Whose time is divided by that of which engines.
PEERS = {
    "ours-partitioned": ("faiss-ivfpq", "scann"),
    "ours-exhaustive": ("faiss-pq",),
    "ours-c-api": ("faiss-pq",),
}
LIBRARIES = ("tfpqn", "python", "tensorflow", "keras", "numpy", "faiss-cpu", "scikit-learn")

HEAD = """\
# Benchmarks in detail

Made by `python benchmarks/bench.py --docs` from
[search.json](../benchmarks/results/search.json); do not edit. [benchmarks.md](benchmarks.md) has
the main figures.

## The engines

- **tfpqn**: the folder that `save_searcher` writes, its signature `search_by_embedding` in a
  TensorFlow 1 session, with XLA disabled as in the stock server. "All items" scores every item, or
  every distinct code once where codes are short. "Lists" is what `partition="auto"` makes.
- **FAISS PQ** and **FAISS IVFPQ** have the same codebooks and codes. IVFPQ has lists of its own
  (spherical k-means, no residuals). We try several numbers of lists, each with the fewest probes
  that agree at least as well as ours, and both ways to share the work among threads. The fastest
  is shown. **Fast scan** has codebooks of its own, of as many bits in positions of 4.
- **Brute force** multiplies the queries with all raw float32 embeddings in a TensorFlow 1 session
  and takes the `top_k`, as TensorFlow Recommenders does.
- **ScaNN** is its TensorFlow op, with as many lists as ours and 16 positions of 4 bits of its own,
  without re-ranking. It looks at the fewest lists with which it agrees with its own search of all
  lists as well as ours does.
- **usearch** keeps a graph over the embeddings in 8 bits a dimension. It searches just far enough
  to find as many of the nearest embeddings as ours, and finds more at its least. **Turbovec**
  scores all items in 2 bits a dimension. Neither stores 8 bytes an item: see the column "bytes".
- ScaNN, usearch and turbovec run in a process of their own and are asked through a pipe, which
  takes some hundredths of a millisecond.

The engines take turns with the same queries and the same number of threads. In its turn an engine
answers two batches in a row.

- **median ms**: of the second batch. **First**: of the first one, when the processor's caches hold
  what the other engines left.
- **ratio**: our time divided by that of the engine named.
- **agreement**: the share of the found items that score at least as much as the last item of a full
  search of the same codes, less 0.0001. **Recall**: the share of the nearest embeddings' items that
  is found.
- **bytes**: stored for an item. Those of our folders are in the second table of each case.
- **kernels**: ops that TensorFlow runs for one query, constants among them. The op named takes the
  largest share of their time.
- **peak MB of a search**: of a fresh process, above its memory with the folder loaded; **of
  building**: above what the process held before.
- **C API**: the same folder through TensorFlow's C API, as the C++ server loads it.
- **AVX2**: on a processor without AVX-512, which is slower in all. `bench.py --parts avx2` keeps
  matrix products and FAISS from AVX-512 where there is one.

A flat search of random codes is all look-ups. `GatherNd` is the fastest standard op for them with
one query, but it copies entry by entry, several times slower than the loop of FAISS. So one query
looks up two positions at once, in tables of 65,536 sums. FAISS gives one query one thread. Many
queries share each look-up of ours: `SparseSegmentSum` adds the entries of all of them.
"""
PLACE = """\
{cpu}, {cores} cores, {threads} threads, load {load_before:.1f} before the run, {date}; {versions}.
Nearest items: {top_k}; at most {repeats} turns.

    {command}
"""


def write_details(content: dict[str, Any], folder: Path) -> None:
    """Write the page on every case."""
    parts = [HEAD]
    for name, sizes in content["scenarios"].items():
        for case in sorted(sizes.values(), key=lambda case: case["items"]):
            parts.append(format_case(name, case))
    if "profile" in content:
        parts.append(format_profile(content["profile"]))
    (folder / PAGE_NAME).write_text("\n".join(parts))


def format_quartiles(quartiles: Sequence[float]) -> str:
    lower, median, upper = map(format_ms, quartiles)
    return f"{median} ({lower}-{upper})"


def format_case(name: str, case: dict[str, Any]) -> str:
    """A section on one scenario and size."""
    bits = case["code_length"] * (case["num_codewords"].bit_length() - 1)
    lines = [
        f"## {name}, {case['items']:,} items",
        "",
        f"{case['description']} Codes of {bits} bits: {case['code_length']} positions with "
        f"{case['num_codewords']} codewords.",
        "",
        *format_times(case),
        "",
        *format_folders(case),
        "",
    ]
    reasons = [
        f"{TITLES[way]}: {reason}." for way, reason in case["not_measured"].items() if way in TITLES
    ]
    if reasons:
        lines += [*reasons, ""]
    return "\n".join([*lines, format_place(case)])


def format_times(case: dict[str, Any]) -> list[str]:
    """The times as lines of Markdown."""
    lines = [
        "| queries | engine | bytes | median ms (quartiles) | first | ratio | agreement | recall |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in case["results"]:
        times = result["engines"]
        for way in (way for way in TITLES if way in times):
            quality = case["quality"].get(way, {})
            agreement = times[way].get("setting", quality).get("agreement")
            lines.append(
                f"| {result['queries']} | {format_engine(way, times[way])} "
                f"| {show(times[way].get('setting', {}).get('bytes_per_item'), '.1f')} "
                f"| {format_quartiles(times[way]['quartiles_ms'])} "
                f"| {format_ms(times[way]['first_quartiles_ms'][1])} "
                f"| {format_ratios(way, times)} "
                f"| {show(agreement, '.4f')} | {show(quality.get('recall'), '.3f')} |"
            )
    return lines


def format_engine(way: str, times: Mapping[str, Any]) -> str:
    setting = times.get("setting", {})
    if "num_lists" in setting:
        return f"{TITLES[way]}, {setting['num_probes']} of {setting['num_lists']} lists"
    return TITLES[way]


def format_ratios(way: str, times: Mapping[str, Any]) -> str:
    peers = [peer for peer in PEERS.get(way, ()) if peer in times]
    return ", ".join(f"{divide(times, way, peer):.2f} of {TITLES[peer]}" for peer in peers)


def divide(times: Mapping[str, Any], way: str, peer: str) -> float:
    """The median time of one engine over that of another."""
    return float(times[way]["quartiles_ms"][1] / times[peer]["quartiles_ms"][1])


def format_ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def format_folders(case: dict[str, Any]) -> list[str]:
    """Size and memory of our folders as lines of Markdown."""
    sizes = list(next(iter(case["folders"].values()))["search_peak_mb"])
    peaks = " | ".join(f"peak MB of a search, {name_batch(size)}" for size in sizes)
    lines = [
        "| folder | storage | kernels | bytes per item | building s | peak MB of building "
        f"| {peaks} |",
        "|---|---|---:|---:|---:|---:|" + "---:|" * len(sizes),
    ]
    for way, own in case["folders"].items():
        storage = own["storage"]
        kind = storage["kind"]
        if "num_lists" in storage:
            kind += f", {storage['num_probes']} of {storage['num_lists']} lists"
        kernels = str(own.get("kernels", ""))
        if "largest_op" in own:
            kernels += ", {op} {share:.0%}".format(**own["largest_op"])
        own_peaks = " | ".join(f"{own['search_peak_mb'][size]:,.0f}" for size in sizes)
        num_bytes = sum(own["bytes_per_item"].values())
        lines.append(
            f"| {TITLES[way]} | {kind} | {kernels} | {num_bytes:.2f} "
            f"| {own['build_seconds']:,.1f} | {own['build_peak_mb']:,.0f} | {own_peaks} |"
        )
    return lines


def format_profile(profile: dict[str, Any]) -> str:
    """A section on the stages of a request."""
    lines = [
        f"## One request with an image, {profile['items']:,} items",
        "",
        "Signature `search` with one JPEG of 32 x 32 pixels, a backbone of 3 convolutions, the "
        'collection "clustered" in lists. Wall-clock times from traces of the session; tracing '
        "itself takes time.",
        "",
        "| stage | ms | share |",
        "|---|---:|---:|",
    ]
    for stage, milliseconds in profile["stages_ms"].items():
        lines.append(f"| {stage} | {milliseconds:.2f} | {profile['shares'][stage]:.0%} |")
    lines += ["", "Untraced:", "", "| signature | median ms (quartiles) |", "|---|---:|"]
    for name, quartiles in profile["signatures_ms"].items():
        lines.append(f"| `{name}` | {format_quartiles(quartiles)} |")
    return "\n".join([*lines, "", format_place(profile)])


def format_place(measured: dict[str, Any]) -> str:
    """The machine, the versions and the command."""
    machine = measured["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in LIBRARIES if name in machine)
    return PLACE.format(
        **{name: machine[name] for name in ("cpu", "cores", "load_before", "date")},
        **{name: measured["settings"][name] for name in ("threads", "top_k", "repeats")},
        versions=versions,
        command=measured["command"],
    )


def show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def name_batch(batch: int | str) -> str:
    return "1 query" if int(batch) == 1 else f"{batch} queries"
