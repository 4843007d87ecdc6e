"""A picture of queries and what was found for them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

QUERY_COLOUR = "#3b4252"
RIGHT_COLOUR = "#2a9d5c"
WRONG_COLOUR = "#d1495b"
# All in pixels: height of an item, its frame, the space between items, the margin around all.
SIDE, FRAME, GAP, MARGIN = 96, 4, 10, 24
TITLE_HEIGHT, HEADING_HEIGHT = 36, 22


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
    drawn = [[_draw_item(item) for item in row] for row in rows]
    width, height = drawn[0][0].width + GAP, SIDE + GAP
    # The neighbours stand a little off their query.
    lefts = [MARGIN + column * width + (2 * GAP if column else 0) for column in range(len(rows[0]))]
    top = MARGIN + TITLE_HEIGHT + HEADING_HEIGHT
    size = (lefts[-1] + width + MARGIN, top + len(rows) * height + MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, "black", ImageFont.load_default(17))
    for left, heading in zip(lefts, ("query", "nearest"), strict=False):
        place = (left, MARGIN + TITLE_HEIGHT)
        draw.text(place, heading, "black", ImageFont.load_default(14))
    for row, items in enumerate(drawn):
        for left, item in zip(lefts, items, strict=True):
            picture.paste(item, (left, top + row * height))
    picture.save(path)
    return path


def _draw_item(item: Item) -> Image.Image:
    """The item, scaled to the height of a row, in its frame; a grey one as ink on paper."""
    strip = item.pixels
    if strip.ndim == 4:
        edge = np.full_like(strip[0, :, :1], 128)
        parts = [part for frame in strip for part in (edge, frame)]
        strip = np.concatenate(parts[1:], axis=1)
    pixels = 255 - strip[..., 0] if strip.shape[-1] == 1 else strip
    inner = SIDE - 2 * FRAME
    width = round(inner * strip.shape[1] / strip.shape[0])
    image = Image.fromarray(pixels).convert("RGB").resize((width, inner), Image.Resampling.NEAREST)
    colours = {None: QUERY_COLOUR, True: RIGHT_COLOUR, False: WRONG_COLOUR}
    framed = Image.new("RGB", (width + 2 * FRAME, SIDE), colours[item.is_right])
    framed.paste(image, (FRAME, FRAME))
    return framed
