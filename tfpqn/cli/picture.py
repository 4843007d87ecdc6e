"""A picture of queries and what was found for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

QUERY_COLOUR = "#3b4252"
RIGHT_COLOUR = "#2a9d5c"
WRONG_COLOUR = "#d1495b"


class Item(NamedTuple):
    """One image, or one clip as a strip of film.

    Attributes:
        pixels: uint8 `[height, width, channels]`, of a clip
            `[num_frames, height, width, channels]`.
        is_right: Whether it is relevant to the row's query; None for the query itself.
    """

    pixels: np.ndarray
    is_right: bool | None


def draw_neighbours(rows: list[list[Item]], path: Path, title: str) -> Path:
    """Draw one row a query: the query, then its neighbours, right ones framed green, others red.

    Args:
        rows: The query first in each; all rows of one length.
        path: The PNG to write.
        title: Line above the picture.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_rows, num_columns = len(rows), len(rows[0])
    pixels = rows[0][0].pixels
    frames = len(pixels) if pixels.ndim == 4 else 1
    side = 0.85 if frames == 1 else 0.7
    width, height = side * frames * num_columns + 0.6, side * num_rows + 0.9
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        num_rows,
        num_columns + 1,
        width_ratios=[1.0, 0.25 / frames, *[1.0] * (num_columns - 1)],
        wspace=0.12 / frames,
        hspace=0.12,
        left=0.03,
        right=0.97,
        top=1 - 0.75 / height,
        bottom=0.03,
    )
    for row, items in enumerate(rows):
        for column, item in enumerate(items):
            axes = figure.add_subplot(grid[row, column if column == 0 else column + 1])
            _draw_item(axes, item)
            if row == 0 and column < 2:
                axes.set_title("query" if column == 0 else "nearest", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=11, x=0.03, ha="left")
    figure.savefig(path)
    return path


def _draw_item(axes: Any, item: Item) -> None:
    strip = item.pixels
    if strip.ndim == 4:
        edge = np.full_like(strip[0, :, :1], 128)
        parts = [part for frame in strip for part in (edge, frame)]
        strip = np.concatenate(parts[1:], axis=1)
    is_grey = strip.shape[-1] == 1
    pixels = strip[..., 0] if is_grey else strip
    axes.imshow(pixels, cmap="gray_r" if is_grey else None, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    colours = {None: QUERY_COLOUR, True: RIGHT_COLOUR, False: WRONG_COLOUR}
    for spine in axes.spines.values():
        spine.set_color(colours[item.is_right])
        spine.set_linewidth(2.5)
