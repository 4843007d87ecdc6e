"""Draw the pictures of docs/concepts.md: python tools/draw_concepts.py

They stand on white, so that they are legible on a light and on a dark page.
"""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
INK, QUERY, CHOSEN, PALE = "#263238", "#c2185b", "#00796b", "#b0bec5"


def draw_soft_assignment() -> Figure:
    """One slice between eight codewords, softer and harder."""
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    codewords = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    subvector = np.array([np.cos(0.5), np.sin(0.5)])
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.2))
    for panel, alpha in zip(panels, (1, 5, 20), strict=True):
        scores = 2 * alpha * codewords @ subvector
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        mixture = weights @ codewords
        panel.scatter(*codewords.T, s=20 + 900 * weights, color=CHOSEN, alpha=0.6)
        panel.annotate("", mixture, (0, 0), arrowprops={"arrowstyle": "->", "color": INK})
        panel.scatter(*subvector, marker="*", s=130, color=QUERY, zorder=3)
        panel.set_title(f"alpha = {alpha}")
        _plain(panel, 1.4)
    return figure


def draw_tables() -> Figure:
    """The table of a query, and the entries that one code names."""
    table = np.random.default_rng(3).uniform(-1, 1, (4, 8)).round(1) + 0.0
    code = [2, 1, 5, 0]
    figure, panel = plt.subplots(figsize=(7, 3.4))
    panel.imshow(table, cmap="Greys", vmin=-1, vmax=3)
    for row, column in np.ndindex(*table.shape):
        is_named = code[row] == column
        style = {"weight": "bold", "color": QUERY} if is_named else {"color": INK}
        panel.text(column, row, f"{table[row, column]:.1f}", ha="center", va="center", **style)
        if is_named:
            corner = (column - 0.5, row - 0.5)
            panel.add_patch(plt.Rectangle(corner, 1, 1, fill=False, color=QUERY, lw=2))
    panel.set_xticks(range(8))
    panel.set_yticks(range(4), [f"slice {row}" for row in range(4)])
    panel.set_xlabel("codeword")
    terms = [table[row, column] for row, column in enumerate(code)]
    sum_text = " + ".join(f"({term:.1f})" if term < 0 else f"{term:.1f}" for term in terms)
    panel.set_title(f"code {tuple(code)}:  score = {sum_text} = {sum(terms):.1f}")
    return figure


def draw_residual_levels() -> Figure:
    """An embedding, the codeword of the first level, and what the second adds."""
    first = np.array([[-1.0, -0.6], [-0.7, 0.9], [0.9, 0.7], [1.0, -0.8]])
    second = 0.35 * np.array([[1, 0.3], [-0.3, 1], [-1, -0.3], [0.3, -1]])
    embedding = np.array([0.72, 1.02])
    level = first[np.argmin(np.sum((first - embedding) ** 2, axis=1))]
    sums = level + second
    reconstruction = sums[np.argmin(np.sum((sums - embedding) ** 2, axis=1))]
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.6))
    for panel, title in zip(panels, ("first level", "first and second level"), strict=True):
        panel.scatter(*first.T, s=70, color=CHOSEN, alpha=0.6)
        panel.annotate("", level, (0, 0), arrowprops={"arrowstyle": "->", "color": INK})
        panel.scatter(*embedding, marker="*", s=130, color=QUERY, zorder=3)
        panel.set_title(title)
        _plain(panel, 1.5)
    panels[1].scatter(*sums.T, s=40, marker="s", color=PALE)
    panels[1].annotate(
        "", reconstruction, level, arrowprops={"arrowstyle": "->", "color": CHOSEN, "lw": 2}
    )
    return figure


def draw_segments() -> Figure:
    """Eight frames, two segments, two codes."""
    figure, panel = plt.subplots(figsize=(8, 3))
    for frame in range(8):
        panel.add_patch(plt.Rectangle((frame, 2), 0.9, 0.8, color=PALE))
        panel.text(frame + 0.45, 2.4, f"frame {frame}", ha="center", va="center", color=INK)
    for segment, code in enumerate(("(12, 47)", "(3, 60)")):
        panel.add_patch(plt.Rectangle((4 * segment, 1), 3.9, 0.6, color=CHOSEN, alpha=0.5))
        middle = 4 * segment + 1.95
        panel.text(middle, 1.3, f"mean of segment {segment}", ha="center", va="center", color=INK)
        panel.annotate("", (middle, 0.7), (middle, 1), arrowprops={"arrowstyle": "->"})
        panel.text(middle, 0.5, code, ha="center", va="center", color=QUERY, weight="bold")
    panel.text(3.95, 0, "code of the clip: (12, 47, 3, 60)", ha="center", color=INK)
    panel.set(xlim=(-0.1, 8), ylim=(-0.3, 3))
    panel.axis("off")
    return figure


def draw_lists() -> Figure:
    """Items in lists, and the two lists that a query looks at."""
    rng = np.random.default_rng(1)
    centroids = rng.uniform(-1, 1, (9, 2))
    items = rng.uniform(-1.2, 1.2, (500, 2))
    query = np.array([0.1, 0.1])
    lists = np.argmin(np.sum((items[:, None] - centroids) ** 2, axis=2), axis=1)
    probed = np.argsort(np.sum((centroids - query) ** 2, axis=1))[:2]
    is_probed = np.isin(lists, probed)
    figure, panel = plt.subplots(figsize=(4.6, 4.2))
    panel.scatter(*items[~is_probed].T, s=9, c=lists[~is_probed], cmap="Greys", vmin=-12, vmax=14)
    panel.scatter(*items[is_probed].T, s=14, color=CHOSEN)
    panel.scatter(*centroids.T, marker="+", s=90, color=INK)
    panel.scatter(*query, marker="*", s=170, color=QUERY, zorder=3)
    panel.set_title(f"2 of 9 lists: {is_probed.sum()} of {len(items)} items")
    _plain(panel, 1.25)
    return figure


PICTURES = {
    "soft-assignment": draw_soft_assignment,
    "tables": draw_tables,
    "residual-levels": draw_residual_levels,
    "segments": draw_segments,
    "lists": draw_lists,
}


def _plain(panel, limit: float) -> None:
    panel.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "tfpqn", "font.size": 9})
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        figure = draw()
        figure.tight_layout()
        figure.savefig(FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
