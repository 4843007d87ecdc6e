"""The pictures of docs/benchmarks.md, from the JSON files of the benchmarks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search_report import TITLES, name_batch

TIME_PICTURE, BYTES_PICTURE = "benchmark-time.png", "benchmark-bytes.png"
STAGE_PICTURE = "pictures/second-stage.png"
COLOURS = {
    "ours-partitioned": "#2a9d5c",
    "ours-exhaustive": "#8ac926",
    "faiss-ivfpq": "#3b6fb5",
    "faiss-pq": "#d1495b",
    "faiss-fastscan": "#e9a03b",
    "scann": "#7b4fa6",
    "usearch": "#5a5a5a",
    "turbovec": "#00a6a6",
    "brute-force": "#000000",
}
# Of a second stage, ours lies in lists too, and FAISS codes by IVFPQ.
STAGE_COLOURS = {
    "tfpqn": COLOURS["ours-partitioned"],
    "FAISS": COLOURS["faiss-ivfpq"],
    "ScaNN": COLOURS["scann"],
}
VECTORS = {
    "fashion-mnist": "Fashion-MNIST, 784 pixels",
    "cifar10-features": "CIFAR-10, 1,280 features",
    "sift-5k": "SIFT, 128 dimensions",
    "sentences": "Sentences, 384 dimensions",
}
METHODS = {
    "tfpqn PQ": "#b7d968",
    "tfpqn rotation + PQ": "#8ac926",
    "tfpqn levels, fitted alone": "#86c9a5",
    "tfpqn levels": "#2a9d5c",
    "FAISS PQ": "#a9c3e6",
    "FAISS OPQ": "#6f9bd1",
    "FAISS RQ": "#3b6fb5",
    "FAISS PRQ, 2 subspaces": "#1f3f6b",
    "FAISS LSQ, bounded": "#d1495b",
    "ScaNN": "#7b4fa6",
}


def draw_times(scenarios: Mapping[str, Any], folder: Path) -> list[str]:
    """Recall against time, by lists looked at and of each other engine."""
    cases = scenarios.get("clustered", {}).values()
    case = next((own for own in cases if own["curve"] and "recall" in own["curve"][0]), None)
    if case is None:
        return []
    batches = list(case["curve"][0]["quartiles_ms"])
    figure, panels = make_panels(len(batches))
    for batch, axes in zip(batches, panels, strict=True):
        for way in sorted({point["engine"] for point in case["curve"]}):
            points = [point for point in case["curve"] if point["engine"] == way]
            times = [point["quartiles_ms"][batch][1] for point in points]
            recalls = [point["recall"] for point in points]
            axes.plot(times, recalls, marker="o", color=COLOURS[way], label=TITLES[way])
        (result,) = (own for own in case["results"] if own["queries"] == int(batch))
        quality = {**case["quality"], "brute-force": {"recall": 1.0}}
        for way, own in result["engines"].items():
            if way not in ("ours-partitioned", "faiss-ivfpq"):
                x, y = own["quartiles_ms"][1], quality[way]["recall"]
                axes.plot(x, y, "s", color=COLOURS[way], label=TITLES[way])
        axes.set(xlabel="ms", ylabel="recall of the 100 nearest", xscale="log", ylim=(0, 1.05))
        axes.set_title(name_batch(batch))
    panels[0].legend(fontsize=7)
    figure.savefig(folder / TIME_PICTURE)
    text = f"Recall against time, {case['items']:,} clustered items; lines: by lists looked at"
    return [f"![{text}]({TIME_PICTURE})", ""]


def draw_recall(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Recall against bytes."""
    sets = [name for name in VECTORS if any(row["vectors"] == name for row in rows)]
    if not sets:
        return []
    figure, panels = make_panels(len(sets))
    for name, axes in zip(sets, panels, strict=True):
        for method, colour in METHODS.items():
            own = [row for row in rows if (row["vectors"], row["method"]) == (name, method)]
            points = sorted((row["bytes"], row["recall"]) for row in own)
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=method)
        axes.set(title=VECTORS[name], xlabel="bytes an item", ylabel="recall 10@10")
        axes.set_xticks(sorted({row["bytes"] for row in rows}))
    by_label = {}
    for axes in panels:
        by_label |= {line.get_label(): line for line in axes.lines}
    figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(folder / BYTES_PICTURE)
    return [f"![Recall against bytes]({BYTES_PICTURE})", ""]


def draw_second_stage(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Recall against the time of 32 queries: a line joins the numbers of candidates."""
    names = list(dict.fromkeys(row["collection"] for row in rows))
    figure, panels = make_panels(len(names))
    for name, axes in zip(names, panels, strict=True):
        own = [row for row in rows if row["collection"] == name]
        for stage in dict.fromkeys((row["engine"], row["first_stage"]) for row in own):
            points = [
                (row["ms_32"][1], row["recall"])
                for row in own
                if (row["engine"], row["first_stage"]) == stage
            ]
            style = {"marker": "o", "ms": 3, "color": STAGE_COLOURS[stage[0]]}
            axes.plot(*zip(*points, strict=True), **style, label=": ".join(stage))
        axes.set(xlabel="ms of a core for 32 queries", ylabel="recall 10@10", title=name)
        axes.legend(fontsize=7)
    figure.savefig(folder / STAGE_PICTURE)
    return [f"![Recall against time with a second stage]({STAGE_PICTURE})", ""]


def make_panels(count: int) -> tuple[Any, list[Any]]:
    """A figure with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.8), dpi=110, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
