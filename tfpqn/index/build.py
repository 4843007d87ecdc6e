"""From a set of images to an index on disk, new or grown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tfpqn._text import counted
from tfpqn.index.code_index import CodeIndex
from tfpqn.index.code_index_writer import CodeIndexWriter
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.manifest import Manifest
from tfpqn.index.number_rows import EMBEDDING_COLUMN, to_half
from tfpqn.index.parts import read_tables
from tfpqn.index.rewriting import Growth, rewriting, write_update
from tfpqn.index.schema import require_unique, to_ids
from tfpqn.protocols import NetworkLike


def network_layout(network: NetworkLike) -> CodeLayout:
    """The look of the codes of a `ProductQuantizationNetwork`, and its codebooks' fingerprint.

    Raises:
        ValueError: The codebooks hold NaN or infinity, or nothing but zeros.
    """
    quantizer = network.quantizer
    quantizer.require_usable_codebooks()
    return CodeLayout(
        quantizer.code_length, quantizer.num_codewords, quantizer.codebook_fingerprint()
    )


def build_index(
    network: NetworkLike,
    images: Any,
    path: str | os.PathLike[str],
    *,
    batch_size: int = 256,
    overwrite: bool = False,
    keep_embeddings: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Code a set of images and write the index; memory does not grow with the set.

    Each item keeps its label's number, and its name where labels have names, as the metadata
    columns `label` and `label_name`, and several labels their names as `labels`.

    Args:
        network: A built `ProductQuantizationNetwork`.
        images: A `tfpqn.datasets.ImageSet`, of clips a `ClipSet`; items that cannot be read are
            left out and noted in its `skipped`.
        path: The index folder.
        batch_size: Images, or frames of clips, coded at once.
        overwrite: Whether an index at `path` is replaced.
        keep_embeddings: Whether the items' embeddings are kept too, float16, as the metadata column
            `embedding`: `Searcher(rerank=True)` ranks by them.
        progress: Called after each batch with the number of images done.

    Returns:
        Number of items in the index.

    Raises:
        FileExistsError: `path` exists and `overwrite` is not set.
        ValueError: No image could be read, an embedding is not finite, an id occurs twice, or the
            images have another shape than the network's.
    """
    network.require_item_shape(images.item_shape)
    require_unique(to_ids(images.ids))
    with CodeIndexWriter(path, network_layout(network), overwrite=overwrite) as writer:
        options = {"keep_embeddings": keep_embeddings}
        for codes, rows, halves in code_batches(network, images, batch_size, progress, **options):
            writer.append(codes, images.ids[rows], metadata_of(images, rows, halves))
    return writer.num_items


def add_to_index(
    network: NetworkLike,
    items: Any,
    path: str | os.PathLike[str],
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Growth:
    """Code a set of items and write them into an index that is there, in one step.

    Items whose ids are in the index get new codes and metadata and keep their positions; the others
    come last. The index keeps its metadata columns, see `update_index`; one that keeps embeddings
    gets those of the items. Where it has labels with names, the items' labels get the numbers that
    their names have there; new names get new numbers. Memory grows with what is kept of `items`.

    The arguments are those of `build_index`.

    Returns:
        How many items were added and updated.

    Raises:
        FileNotFoundError: There is no index at `path`.
        TypeError: The index has ids or metadata of other types.
        ValueError: The index was built with other codebooks, or what `build_index` refuses. The
            index is then as it was.
    """
    # Locked from the start: hours of coding should not end in a refusal.
    with rewriting(path) as (manifest, writer):
        layout = network_layout(network)
        manifest.layout.require(layout)
        network.require_item_shape(items.item_shape)
        require_unique(to_ids(items.ids, manifest.id_type))
        keep = EMBEDDING_COLUMN in manifest.metadata_columns
        batches = code_batches(network, items, batch_size, progress, keep_embeddings=keep)
        codes, rows, halves = map(np.concatenate, zip(*batches, strict=True))
        metadata = metadata_of(items, rows, halves)
        numbered = {"label": "int64", "label_name": "string"}
        if numbered.items() <= manifest.metadata_columns.items() and "label_name" in metadata:
            metadata["label"] = _known_labels(Path(path), manifest, metadata)
        added = CodeIndex(layout, codes, items.ids[rows], metadata)
        return write_update(manifest, writer, added)


def code_batches(
    network: NetworkLike,
    images: Any,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
    *,
    may_be_none: bool = False,
    keep_embeddings: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the codes of each batch, the rows of the set that they are of, and embeddings.

    The embeddings are float16, of length 0 unless they are kept. A ValueError says that no item
    could be read, unless there may be none.
    """
    num_kept = None if keep_embeddings else 0
    num_done = 0
    for batch in images.batches(images.items_per_batch(batch_size)):
        outputs = network.predict_on_batch(batch.images)
        ids = images.ids[batch.positions]
        _require_finite(outputs["embeddings"], ids)
        if network.quantizer.similarity == "cosine":
            _require_directions(outputs["embeddings"], ids)
        yield outputs["codes"], batch.positions, to_half(outputs["embeddings"][:, :num_kept])
        num_done += len(batch.positions)
        if progress is not None:
            progress(num_done)
    if not num_done and not may_be_none:
        raise ValueError(
            "The collection must hold at least one readable item. "
            f"Received: {len(images)} items, none readable"
        )


def metadata_of(images: Any, rows: np.ndarray, halves: np.ndarray | None = None) -> dict[str, Any]:
    """The metadata columns that an index keeps of these rows of a set, and embeddings of them."""
    labels = images.labels[rows]
    others = images.metadata_at(rows)
    if halves is not None and halves.shape[1]:
        others[EMBEDDING_COLUMN] = halves
    if labels.ndim != 1:
        return {**_name_all(labels, images.label_names), **others}
    if not images.label_names:
        return {"label": labels, **others}
    names = [images.label_names[label] if label >= 0 else None for label in labels]
    # Strings, even if no item has a name.
    return {"label": labels, "label_name": pa.array(names, pa.string()), **others}


def _name_all(labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Names of multi-hot labels, a list an item; nothing where they have none."""
    if not names:
        return {}
    rows = [[names[label] for label in np.flatnonzero(row).tolist()] for row in labels]
    return {"labels": pa.array(rows, pa.list_(pa.string()))}


def _known_labels(folder: Path, manifest: Manifest, metadata: dict[str, Any]) -> np.ndarray:
    """The items' label numbers as an index counts them; -1 without a name."""
    columns = ["label", "label_name"]
    tables = read_tables(folder, manifest, columns)
    pairs = pa.concat_tables(table.group_by(columns).aggregate([]) for table in tables)
    # Where a name has several numbers, the smallest counts.
    known = pairs.drop_null().group_by("label_name").aggregate([("label", "min")])
    numbers = {row["label_name"]: row["label_min"] for row in known.to_pylist()}
    names = metadata["label_name"].to_pylist()
    for name in sorted(set(names) - {None}):
        numbers.setdefault(name, max(numbers.values(), default=-1) + 1)
    return np.array([numbers.get(name, -1) for name in names], np.int64)


def _require_directions(embeddings: np.ndarray, ids: np.ndarray) -> None:
    is_zero = ~embeddings.any(axis=1)
    if is_zero.any():
        raise ValueError(
            "With similarity cosine each item must have a direction. Received a vector of zeros "
            f"for {counted(is_zero.sum(), 'items')}, the first with id "
            f"{ids[is_zero].tolist()[0]!r}"
        )


def _require_finite(embeddings: np.ndarray, ids: np.ndarray) -> None:
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise ValueError(
            "The network's embeddings must be finite. Received NaN or infinity for "
            f"{counted(broken.sum(), 'items')}, the first with id {ids[broken].tolist()[0]!r}"
        )
