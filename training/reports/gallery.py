"""Queries and what was found for them, as rows of small pictures and names."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfpqn.datasets import ImageSet

from ..encoding import spread
from .findings import Findings
from .measures import Labels

# Items of a row, beside its query.
SHOWN = 8
# Pixels of a thumbnail's height, and frames of a clip's.
HEIGHT = 64
FRAMES = 3


class Shown(NamedTuple):
    """One item of a gallery.

    Attributes:
        id: Its id.
        labels: Names of its labels.
        picture: A PNG or JPEG, or None of an item without pixels.
        is_right: Whether it is right for the row's query; None for the query itself.
    """

    id: str
    labels: list[str]
    picture: bytes | None
    is_right: bool | None


class GalleryRow(NamedTuple):
    """A query and the first items found for it.

    Attributes:
        query: The query.
        found: The items, best first.
        quality: See `Findings`.
    """

    query: Shown
    found: list[Shown]
    quality: float


def typical_queries(findings: Findings, count: int) -> np.ndarray:
    """Queries evenly spread over the labels: rows of `findings.query`."""
    labels = findings.query.labels
    keys = labels if labels.ndim == 1 else (labels > 0).argmax(axis=1)
    return np.argsort(keys, kind="stable")[spread(len(keys), count)]


def hardest_queries(findings: Findings, count: int) -> np.ndarray:
    """Queries of the lowest quality, the worst first: rows of `findings.query`.

    A query whose labels no item has cannot be answered, and is left out.
    """
    order = np.argsort(findings.quality, kind="stable")
    return order[findings.can_be_answered[order]][:count]


def show_rows(findings: Findings, labels: Labels, queries: np.ndarray) -> list[GalleryRow]:
    """The queries at some rows of `findings.query`, with the items found for each."""
    query_set, database_set = findings.splits.query, findings.splits.database
    rows = []
    for query in queries.tolist():
        found = findings.database.positions[findings.found[query, :SHOWN]]
        position = findings.query.positions[query : query + 1]
        (shown_query,) = _show(query_set, labels, position, [None])
        is_right = findings.is_right[query, :SHOWN].tolist()
        rows.append(
            GalleryRow(
                shown_query,
                _show(database_set, labels, found, is_right),
                float(findings.quality[query]),
            )
        )
    return rows


def _show(
    items: ImageSet, labels: Labels, positions: np.ndarray, is_right: list[bool | None]
) -> list[Shown]:
    pictures: dict[int, bytes] = {}
    if items.items.has_pixels:
        batch = items.read(positions)
        pictures = {
            position: make_thumbnail(pixels)
            for position, pixels in zip(batch.positions.tolist(), batch.images, strict=True)
        }
    return [
        Shown(
            str(items.ids[position]),
            labels.names_of(items.labels[position]),
            pictures.get(position),
            right,
        )
        for position, right in zip(positions.tolist(), is_right, strict=True)
    ]


def make_thumbnail(pixels: np.ndarray, height: int = HEIGHT) -> bytes:
    """A small picture of an image, or of a clip's first, middle and last frame beside each other.

    Args:
        pixels: uint8 `[height, width, channels]`, or `[num_frames, height, width, channels]`.
        height: Greatest height of the picture in pixels.

    Returns:
        A PNG of few pixels, which stay sharp when a page enlarges them, or a JPEG.
    """
    if pixels.ndim == 4:
        pixels = np.concatenate(pixels[spread(len(pixels), FRAMES)], axis=1)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content = io.BytesIO()
    if image.height > height:
        image = image.resize((max(1, image.width * height // image.height), height))
    if image.height <= height // 2:
        image.save(content, "PNG")
    else:
        image.save(content, "JPEG", quality=80)
    return content.getvalue()
