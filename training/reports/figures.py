"""The figures of a report: each function gives a matplotlib Figure, which belongs to no window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfpqn._extras import import_extra

from .findings import RECALLS
from .measures import NO_LABEL, SEVERAL, Confusion

BLUE, ORANGE, GREY, PALE = "#2f6f9f", "#d9822b", "#9a9a9a", "#c8c8c8"
WIDTH = 7.2
# Groups of items that have colours of their own; the others share one.
COLOURED_GROUPS = 10
LONGEST_NAME = 20
# What is drawn first, and of what a history holds all that is not drawn by itself.
FIRST_CURVES, NO_CURVES = ("loss", "mAP"), ("epoch", "seconds", "raw_mAP")


def import_matplotlib() -> ModuleType:
    """The figures of matplotlib, which only the extra `report` brings.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    return import_extra("matplotlib.figure", "report", "Drawing a report needs matplotlib")


def draw_training_curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Each metric of training by epoch, in axes of its own; both mAPs share one.

    Args:
        history: One dict a finished epoch, as `Run.read_history` gives them; at least one.
    """
    recorded = dict.fromkeys(name for epoch in history for name in epoch)
    names = [name for name in FIRST_CURVES if name in recorded]
    names += [name for name in recorded if name not in (*FIRST_CURVES, *NO_CURVES)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(WIDTH, 0.2 + 1.8 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, name in zip(grid, names, strict=False):
        _draw_curve(axes, history, name, "codes")
        if name == "mAP":
            _draw_curve(axes, history, "raw_mAP", "raw embeddings")
            axes.legend(fontsize=7)
        axes.set_title(name.replace("_", " "), fontsize=9)
        _label(axes, "epoch")
        axes.tick_params(labelsize=7, labelbottom=True)
        axes.ticklabel_format(axis="y", scilimits=(-3, 5))
        axes.yaxis.get_offset_text().set_fontsize(7)
        axes.locator_params(axis="x", integer=True, nbins=6)
        axes.grid(alpha=0.3)
    for axes in grid[len(names) :]:
        axes.remove()
    return figure


def _draw_curve(axes: Any, history: Sequence[Mapping[str, float]], name: str, label: str) -> None:
    points = [(number, epoch[name]) for number, epoch in enumerate(history, 1) if name in epoch]
    colour = ORANGE if name == "raw_mAP" else BLUE
    axes.plot(*np.reshape(points, (-1, 2)).T, ".-", color=colour, label=label, linewidth=1.4)


def draw_shares(shares: Mapping[str, float], title: str) -> Any:
    """One bar a share between 0 and 1, the first on top, with its figure beside it.

    Args:
        shares: Name of each bar -> its share.
        title: What the shares are of.
    """
    figure = _figure(WIDTH, 0.8 + 0.34 * len(shares))
    axes = figure.subplots()
    colours = [ORANGE if name.startswith("raw") else BLUE for name in shares]
    bars = axes.barh(range(len(shares)), list(shares.values()), color=colours, height=0.62)
    axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=8)
    axes.set_yticks(range(len(shares)), list(shares), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xticks(np.linspace(0, 1, 6))
    _label(axes, title)
    _open_frame(axes)
    return figure


def draw_precision_recall(precision: Mapping[str, np.ndarray]) -> Any:
    """Mean precision at each recall.

    Args:
        precision: Name of each line -> its precision at each of `RECALLS`.
    """
    figure = _figure(WIDTH, 3.6)
    axes = figure.subplots()
    for (name, values), style in zip(precision.items(), ("-", "--", ":"), strict=False):
        colour = ORANGE if name.startswith("raw") else BLUE
        axes.plot(RECALLS, values, style, color=colour, label=name, linewidth=1.8)
    _label(axes, "recall", "precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _open_frame(axes)
    return figure


def draw_codeword_usage(counts: np.ndarray) -> Any:
    """How evenly each position uses its codewords.

    On the left each position's codewords, the most used first, coloured by their use over that of
    an even use. On the right how many are used at all, and the perplexity: as many codewords,
    evenly used, would have the same entropy.

    Args:
        counts: Integers `[code_length, num_codewords]`.
    """
    length, num_codewords = counts.shape
    figure = _figure(WIDTH, 1.5 + 0.22 * min(length, 24))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    use = -np.sort(-counts / totals * num_codewords, axis=1)
    image = left.imshow(
        np.log2(np.maximum(use, 1e-9)), vmin=-3, vmax=3, cmap="Blues", aspect="auto"
    )
    _label(left, "codewords, most used first", "position of the code")
    bar = figure.colorbar(image, ax=left, ticks=[-3, 0, 3], location="top", aspect=40, pad=0.03)
    bar.ax.set_xticklabels(["1/8 or less", "even use", "8 times or more"], fontsize=7)
    places = np.arange(length)
    right.barh(places, (counts > 0).sum(axis=1), color=GREY, height=0.75, label="used")
    right.barh(places, _perplexity(counts), color=BLUE, height=0.4, label="perplexity")
    _label(right, f"of {num_codewords} codewords")
    right.set(xlim=(0, num_codewords), ylim=(length - 0.5, -0.5))
    right.legend(fontsize=7, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    for axes in (left, right):
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="y", integer=True, nbins=min(length, 24))
    return figure


def _perplexity(counts: np.ndarray) -> np.ndarray:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300)), axis=1)))


def draw_projection(points: np.ndarray, shares: np.ndarray, groups: Sequence[str]) -> Any:
    """Items in two dimensions, coloured by their groups: the largest ones, and the others.

    Args:
        points: `[items, 2]`.
        shares: Share of the variance along each axis, `[2]`.
        groups: Name of the group of each item.
    """
    figure = _figure(WIDTH, 4.6)
    axes = figure.subplots()
    names = np.array(groups, dtype=object)
    coloured = _largest_groups(groups)
    others = ~np.isin(names, coloured)
    rest = PALE if coloured else BLUE
    marks = [("others", others, rest)] if others.any() else []
    marks += [(name, names == name, f"C{number}") for number, name in enumerate(coloured)]
    for _, chosen, colour in marks:
        axes.scatter(*points[chosen].T, s=9, color=colour, alpha=0.8, linewidths=0)
    if coloured:
        _legend(axes, [name for name, *_ in marks])
    first, second = (f"{share:.0%} of the variance" for share in shares)
    _label(axes, f"first component, {first}", f"second component, {second}")
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    return figure


def _largest_groups(groups: Sequence[str]) -> list[str]:
    """Names of the largest groups, sorted; none if no item has a label."""
    counts = Counter(groups)
    for name in (NO_LABEL, SEVERAL):
        del counts[name]
    return sorted(name for name, _ in counts.most_common(COLOURED_GROUPS))


def _legend(axes: Any, names: Sequence[str]) -> None:
    """A legend beside the axes, whose names are taken as they are: no mathematics, none left out.

    Matplotlib leaves out names that begin with an underscore, and reads what stands between
    dollars.
    """
    handles = axes.collections
    legend = axes.legend(
        handles,
        [str(number) for number in range(len(names))],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8,
        markerscale=2,
        frameon=False,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shown(name))


def draw_confusion(confusion: Confusion) -> Any:
    """For queries of a row's label, the share of each column's label among the items found."""
    count = len(confusion.names)
    side = min(3.0 + 0.24 * count, WIDTH)
    figure = _figure(side + 1.0, side)
    axes = figure.subplots()
    image = axes.imshow(confusion.shares, vmin=0, vmax=1, cmap="Blues")
    names, plain = [shown(name) for name in confusion.names], {"parse_math": False, "fontsize": 8}
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(count), names, **plain, **(turned if max(map(len, names)) > 2 else {}))
    axes.set_yticks(range(count), names, **plain)
    _label(axes, "label of the items found", "label of the query")
    figure.colorbar(image, ax=axes, shrink=0.7).ax.tick_params(labelsize=7)
    if count <= COLOURED_GROUPS:
        for (row, column), share in np.ndenumerate(confusion.shares):
            colour = "white" if share > 0.5 else "black"
            text = f"{share:.2f}".lstrip("0") if share >= 0.005 else ""
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    return figure


def shown(name: str) -> str:
    """A name as a figure can show it: in one line, short, and of characters that its font has."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    characters = [c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in name]
    text = "".join(characters)
    if len(text) <= LONGEST_NAME:
        return text
    # Long names often differ at their ends.
    half = LONGEST_NAME // 2
    return f"{text[:half]}…{text[-half + 1 :]}"


def _figure(width: float, height: float) -> Any:
    """An empty figure of so many inches; pyplot, which keeps what it makes, has no part in it."""
    return import_matplotlib().Figure(figsize=(width, height), layout="constrained")


def _label(axes: Any, x: str, y: str = "") -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def _open_frame(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
