"""The page and the pictures of the benchmark of the search, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE_NAME = "benchmarks.md"
AGREEMENT_NAME = "search-agreement.png"
GROWTH_NAME = "search-growth.png"
TITLES = {
    "ours-partitioned": "tfpqn, lists",
    "ours-exhaustive": "tfpqn, all items",
    "ours-c-api": "tfpqn, all items, C API",
    "faiss-ivfpq": "FAISS IVFPQ",
    "faiss-pq": "FAISS PQ",
    "faiss-fastscan": "FAISS PQ fast scan, 16 x 4 bits",
    "scann": "ScaNN",
    "brute-force": "brute force",
}
COLOURS = {
    "ours-partitioned": "#2a9d5c",
    "ours-exhaustive": "#8ac926",
    "faiss-ivfpq": "#3b6fb5",
    "faiss-pq": "#d1495b",
}
LIBRARIES = ("tfpqn", "python", "tensorflow", "keras", "numpy", "faiss-cpu", "scikit-learn")

HEAD = """\
# Benchmarks

Made by `python benchmarks/search.py --docs` from
[search.json](../benchmarks/results/search.json); do not edit.

## The engines

- **tfpqn**: the folder that `save_searcher` writes, its signature `search_by_embedding` in a
  TensorFlow 1 session, with XLA disabled as in the stock server. "All items" scores every item, or
  every distinct code once where codes are short; "lists" looks at the lists nearest to the query.
- **FAISS PQ** and **FAISS IVFPQ** have the same codebooks and codes. IVFPQ has lists of its own
  (spherical k-means, no residuals). Several numbers of lists were tried, each with the fewest
  probes that agree at least as well as ours, and both ways to share the work among threads. The
  fastest is shown. **Fast scan** has codebooks of its own, of as many bits in positions of 4.
- **Brute force** multiplies the queries with all raw float32 embeddings in a TensorFlow 1 session
  and takes the `top_k`, as TensorFlow Recommenders does.
- **ScaNN** is measured where an environment for it was given: its TensorFlow op in a process with
  another TensorFlow (the versions are in the JSON), asked through a pipe, which takes some
  hundredths of a millisecond. It has as many lists as ours and 16 positions of 4 bits of its own,
  without re-ranking; its agreement is that with its own search of all lists.

The engines take turns in one process with the same queries and the same number of threads. In its
turn an engine answers two batches in a row. The times are medians of the second, with quartiles.
"First" is the median of the first, which finds the caches full of what the other engines left.
"Ratio" is the time over that of the engine named. "Agreement" is the
share of the items found whose score is at least that of the last item of a full search of the same
codes, less 0.0001. "Recall" is the share of the items with the nearest embeddings that are found.
Memory of a search is the peak of a fresh process above its memory with the folder loaded; that of
building the peak above what the process held before.
"""
PAIRED = """\
Both versions answer the same queries in turn in one process, without XLA, on a machine that others
used at the same time: compare the ratios, which are medians over the pairs, not the times. Kernels
are those that run for one query, constants and control flow among them. The figures of the other
sections were measured earlier."""
PAIRED_COMMAND = "python benchmarks/search_paired.py BEFORE AFTER QUERIES.npy --name NAME"
PLACE = """\
{cpu}, {cores} cores, {threads} threads, load {load_before:.1f} before the run, {date}; {versions}.
Nearest items: {top_k}; at most {repeats} turns.

    {command}
"""


def write_docs(content: dict[str, Any], folder: Path) -> None:
    """Write the page and what pictures there are figures for."""
    pictures = draw_agreement(content, folder) + draw_growth(content, folder)
    parts = [HEAD, *pictures]
    if "paired" in content:
        parts.append(format_paired(content["paired"]))
    for name, sizes in content["scenarios"].items():
        for case in sorted(sizes.values(), key=lambda case: case["items"]):
            parts.append(format_case(name, case))
    if "profile" in content:
        parts.append(format_profile(content["profile"]))
    (folder / PAGE_NAME).write_text("\n".join(parts))


def format_paired(paired: Mapping[str, Any]) -> str:
    """A section on two versions of the package, measured pair by pair."""
    lines = [
        "## Two versions, pair by pair",
        "",
        PAIRED,
        "",
        "| collection | queries | before ms (quartiles) | after ms (quartiles) | ratio | pairs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, case in paired.items():
        for queries, times in case["times"].items():
            before, after = (format_quartiles(times[f"{way}_ms"]) for way in ("before", "after"))
            ratio = f"{times['median_ratio']:.2f} | {times['pairs']}"
            lines.append(f"| {name} | {queries} | {before} | {after} | {ratio} |")
    lines += ["", "| collection | kernels before | kernels after |", "|---|---|---|"]
    for name, case in paired.items():
        counts = [format_kernels(case["kernels"][way]) for way in ("before", "after")]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    loads = [case["machine"]["load_before"] for case in paired.values()]
    machine = next(iter(paired.values()))["machine"]
    place = f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}"
    lines += ["", f"{place}; load {min(loads):.1f} to {max(loads):.1f} before the runs.", ""]
    return "\n".join([*lines, f"    {PAIRED_COMMAND}", ""])


def format_quartiles(quartiles: Sequence[float]) -> str:
    lower, median, upper = map(format_ms, quartiles)
    return f"{median} ({lower}-{upper})"


def format_kernels(counts: Mapping[str, int]) -> str:
    """How many kernels ran, and the most frequent types."""
    own = [f"{count} {name}" for name, count in counts.items() if name != "all"]
    return f"**{counts['all']}**: {', '.join(own[:8])}"


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
        "| queries | engine | median ms (quartiles) | first | ratio | agreement | recall |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for result in case["results"]:
        for way in (way for way in TITLES if way in result["engines"]):
            times = result["engines"][way]
            lower, median, upper = map(format_ms, times["quartiles_ms"])
            quality = case["quality"].get(way, {})
            agreement = times.get("setting", quality).get("agreement")
            lines.append(
                f"| {result['queries']} | {format_engine(way, times)} "
                f"| {median} ({lower}-{upper}) | {format_ms(times['first_quartiles_ms'][1])} "
                f"| {format_ratio(times)} "
                f"| {show(agreement, '.4f')} | {show(quality.get('recall'), '.3f')} |"
            )
    return lines


def format_engine(way: str, times: Mapping[str, Any]) -> str:
    if "setting" not in times:
        return TITLES[way]
    return "{}, {num_probes} of {num_lists} lists".format(TITLES[way], **times["setting"])


def format_ratio(times: Mapping[str, Any]) -> str:
    if "ratio" not in times:
        return ""
    return f"{times['ratio']:.2f} of {TITLES[times['peer']]}"


def format_ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def format_folders(case: dict[str, Any]) -> list[str]:
    """Size and memory of our folders as lines of Markdown."""
    sizes = list(next(iter(case["folders"].values()))["search_peak_mb"])
    peaks = " | ".join(f"peak MB of a search, {name_batch(size)}" for size in sizes)
    lines = [
        f"| folder | storage | bytes per item | building s | peak MB of building | {peaks} |",
        "|---|---|---:|---:|---:|" + "---:|" * len(sizes),
    ]
    for way, own in case["folders"].items():
        storage = own["storage"]
        kind = storage["kind"]
        if "num_lists" in storage:
            kind += f", {storage['num_probes']} of {storage['num_lists']} lists"
        own_peaks = " | ".join(f"{own['search_peak_mb'][size]:,.0f}" for size in sizes)
        lines.append(
            f"| {TITLES[way]} | {kind} | {sum(own['bytes_per_item'].values()):.2f} "
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


# Pictures


def draw_agreement(content: dict[str, Any], folder: Path) -> list[str]:
    """Time against agreement; the lines of Markdown that show it."""
    cases = content["scenarios"].get("clustered", {}).values()
    case = next((case for case in cases if case["curve"]), None)
    if case is None:
        return []
    batches = list(case["curve"][0]["quartiles_ms"])
    figure, panels = make_panels(len(batches))
    for batch, axes in zip(batches, panels, strict=True):
        for way in sorted({point["engine"] for point in case["curve"]}):
            points = [point for point in case["curve"] if point["engine"] == way]
            agreements = [point["agreement"] for point in points]
            times = [point["quartiles_ms"][batch][1] for point in points]
            label = f"{TITLES[way]}, {points[0]['num_lists']} lists"
            axes.plot(agreements, times, marker="o", color=COLOURS[way], label=label)
            for point, x, y in zip(points, agreements, times, strict=True):
                axes.annotate(point["num_probes"], (x, y), fontsize=7)
        axes.set(xlabel="agreement with a full search", ylabel="ms", yscale="log")
        axes.set_title(name_batch(batch))
        axes.legend()
    figure.savefig(folder / AGREEMENT_NAME)
    text = f"Time against agreement, {case['items']:,} items, by lists looked at"
    return [f"![{text}]({AGREEMENT_NAME})", ""]


def draw_growth(content: dict[str, Any], folder: Path) -> list[str]:
    """Time against the number of items; the lines of Markdown that show it."""
    cases = content["scenarios"].get("clustered", {}).values()
    ordered = sorted(cases, key=lambda case: case["items"])
    if not ordered:
        return []
    batches = [result["queries"] for result in ordered[0]["results"]]
    batches = sorted({batches[0], batches[min(2, len(batches) - 1)]})
    figure, panels = make_panels(len(batches))
    for batch, axes in zip(batches, panels, strict=True):
        for way, colour in COLOURS.items():
            points = [
                (case["items"], result["engines"][way]["quartiles_ms"][1])
                for case in ordered
                for result in case["results"]
                if result["queries"] == batch and way in result["engines"]
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=TITLES[way])
        axes.set(xlabel="items", ylabel="ms", xscale="log", yscale="log")
        axes.set_title(name_batch(batch))
        axes.legend()
    figure.savefig(folder / GROWTH_NAME)
    return [f"![Time against the number of items, clustered]({GROWTH_NAME})", ""]


def name_batch(batch: int | str) -> str:
    return "1 query" if int(batch) == 1 else f"{batch} queries"


def make_panels(count: int) -> tuple[Any, list[Any]]:
    """A figure with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.8), dpi=110, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
