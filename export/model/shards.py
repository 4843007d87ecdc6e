"""A collection too large for one server, written in parts that servers hold together."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpqn.files.atomic import atomic_directory
from tfpqn.index import CodeIndex, Manifest, describe_index
from tfpqn.index.parts import read_tables
from tfpqn.protocols import NetworkLike

from ..interface.batching_parameters import BatchingParameters
from ..interface.shard import Shard
from ..search.filters import columns_to_read, make_tag_sets
from .saved_model import default_batching, require_new_version, write_version
from .search_options import list_columns
from .searcher import Searcher


def save_shards(
    network: NetworkLike,
    index: str | os.PathLike[str],
    path: str | os.PathLike[str],
    num_shards: int,
    *,
    metrics: dict[str, Any] | None = None,
    batching: BatchingParameters | None = None,
    export_id: str | None = None,
    **options: Any,
) -> list[Path]:
    """Write network and index as shards: version folders whose servers together hold all items.

    For `path` "models/birds/1" the shards are `models/birds-shard-0-of-4/1` and so on: each is the
    folder of a model that a stock server loads, under the name `birds`. Shard after shard, the
    items come in the order of the index. One shard's items are in memory at a time. The folders
    appear together when all are whole.

    Args:
        network: A built `ProductQuantizationNetwork`.
        index: Folder of the index that it coded.
        path: Model folder and version number that the shards' own are named after.
        num_shards: How many; each holds equally many items, or one more.
        metrics: As of `save_searcher`.
        batching: As of `save_searcher`.
        export_id: What the shards have in common, and no others; a random one if None.
        **options: Arguments of `Searcher`, for each shard. Lists are those of a shard.

    Returns:
        The version folders.

    Raises:
        BlockingIOError: The index was replaced meanwhile.
        FileExistsError: One of the folders exists.
        ValueError: There are fewer items than shards, or what `Searcher` and `save_searcher`
            refuse.
    """
    manifest = describe_index(index)
    if not 1 <= num_shards <= manifest.num_items:
        raise ValueError(
            "num_shards must be at least 1 and at most the number of items. "
            f"Received: num_shards={num_shards}, and an index of {manifest.num_items} items"
        )
    export_id = export_id or uuid.uuid4().hex
    shards = [Shard(number, num_shards, export_id) for number in range(num_shards)]
    paths = shard_paths(path, num_shards)
    for place in paths:
        require_new_version(place)
    json.dumps(metrics, allow_nan=False)
    batching = batching or default_batching(network)
    if options.get("tag_columns") and options.get("known_tags", ()) is not None:
        options["known_tags"] = _list_tags(Path(index), manifest, options["tag_columns"])
    with contextlib.ExitStack() as whole:
        folders = [whole.enter_context(atomic_directory(place)) for place in paths]
        for shard, folder, place in zip(shards, folders, paths, strict=True):
            items = _load_items(Path(index), manifest, shard, options)
            searcher = Searcher(network, items, shard=shard, **options)
            write_version(searcher, folder, place, metrics, batching)
            # A searcher and its functions hold each other, and the items with them.
            del items, searcher
            gc.collect()
    return paths


def shard_paths(path: str | os.PathLike[str], num_shards: int) -> list[Path]:
    """The version folders of the shards of `path`."""
    model, version = Path(path).resolve().parent, Path(path).name
    shards = [Shard(number, num_shards, "") for number in range(num_shards)]
    return [model.with_name(f"{model.name}{shard.suffix}") / version for shard in shards]


def _load_items(
    index: Path, manifest: Manifest, shard: Shard, options: Mapping[str, Any]
) -> CodeIndex:
    """A shard's items: those of neighbouring positions, so that ties keep their order."""
    ends = [manifest.num_items * n // shard.num_shards for n in (shard.number, shard.number + 1)]
    columns = list_columns(options, manifest.metadata_columns)
    items = CodeIndex.load(index, columns, range(*ends))
    if describe_index(index) != manifest:
        raise BlockingIOError(
            f"The index must stay as it is while shards are written. Received: {str(index)!r}, "
            "which was replaced; export again"
        )
    return items


def _list_tags(index: Path, manifest: Manifest, columns: Sequence[str]) -> list[str]:
    """All tags of the collection: one of another shard's items is no unknown tag."""
    read = columns_to_read(columns, manifest.metadata_columns)
    if not set(read) <= set(manifest.metadata_columns):
        return []  # Refused when the items are loaded.
    tables = read_tables(index, manifest, read)
    return sorted({tag for table in tables for tag in make_tag_sets(table, columns).names})
