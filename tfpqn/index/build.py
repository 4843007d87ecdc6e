"""From a set of images to an index on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ._ids import check_unique_ids, convert_ids
from .code_index_writer import CodeIndexWriter
from .code_layout import CodeLayout

__all__ = ["build_index", "network_layout"]


def network_layout(network: Any) -> CodeLayout:
    """What codes of a `ProductQuantizationNetwork` look like, and its codebooks' fingerprint."""
    quantizer = network.quantizer
    return CodeLayout(
        quantizer.code_length, quantizer.num_codewords, quantizer.codebook_fingerprint()
    )


def build_index(
    network: Any,
    images: Any,
    path: str | os.PathLike[str],
    *,
    batch_size: int = 256,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Code a set of images and write the index; memory does not grow with the set.

    Each item keeps its label's number, and its name where labels have names, as the metadata
    columns `label` and `label_name`; multi-hot labels are left out.

    Args:
        network: A built `ProductQuantizationNetwork`.
        images: A `tfpqn.datasets.ImageSet`, of clips a `ClipSet`; items that cannot be read are
            left out and noted in its `skipped`.
        path: The index folder.
        batch_size: Images, or frames of clips, coded at once.
        overwrite: Whether an index at `path` is replaced.
        progress: Called after each batch with the number of images done.

    Returns:
        Number of items in the index.

    Raises:
        FileExistsError: `path` exists and `overwrite` is not set.
        ValueError: No image could be read, an embedding is not finite, an id occurs twice, or the
            images have another shape than the network's.
    """
    network.require_item_shape(images.item_shape)
    check_unique_ids(convert_ids(images.ids))
    with CodeIndexWriter(path, network_layout(network), overwrite=overwrite) as writer:
        for batch in images.batches(images.items_per_batch(batch_size)):
            outputs = network.predict_on_batch(batch.images)
            _require_finite(outputs["embeddings"], images.ids[batch.positions])
            rows = batch.positions
            writer.append(outputs["codes"], images.ids[rows], _metadata(images, rows))
            if progress is not None:
                progress(writer.num_items)
        if not writer.num_items:
            raise ValueError(
                "The collection must hold at least one readable image. "
                f"Received: {len(images)} images, none readable"
            )
    return writer.num_items


def _metadata(images: Any, rows: np.ndarray) -> dict[str, Any]:
    labels = images.labels[rows]
    if labels.ndim != 1:
        return {}
    if not images.label_names:
        return {"label": labels}
    names = [images.label_names[label] if label >= 0 else None for label in labels]
    return {"label": labels, "label_name": names}


def _require_finite(embeddings: np.ndarray, ids: np.ndarray) -> None:
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise ValueError(
            "The network's embeddings must be finite. Received NaN or infinity for "
            f"{broken.sum()} images, the first with id {ids[broken][0]!r}"
        )
