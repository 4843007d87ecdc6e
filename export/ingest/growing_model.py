"""What servers hold of an index that grows: a base, exported now and then, and a delta to it."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpqn.index import (
    Difference,
    Manifest,
    compact_index,
    compare_index,
    copy_index,
    describe_index,
    network_layout,
)

from ..interface.batching_parameters import BatchingParameters
from ..interface.bounds import MAX_EXCLUSIONS
from ..interface.delta import Delta
from ..model.saved_model import save_searcher
from ..model.search_options import list_columns
from ..model.searcher import Searcher
from ..model.shards import save_shards
from .folders import KEPT_BASES, Base, CollectionFolders

# Arguments of `Searcher` that a delta has not: it is small, and searched whole.
_OF_BASES = frozenset(
    ("partition", "num_probes", "agreement", "tuning_queries", "progress", "num_candidates")
)
# A request has room for as many ids to leave out; half of it is for those of the caller.
MAX_HIDDEN = MAX_EXCLUSIONS // 2
# Parts of an index that are smaller are joined, once there are so many.
_ROWS_PER_PART, _MOST_SMALL_PARTS = 65_536, 16


class GrowingModel:
    """Exports an index that grows so that servers follow it within seconds.

    A *base* is an export in shards. A *delta* is a small model of the items that came or changed
    since, and knows the ids that a base holds and that have to be hidden. `ShardedSearchClient` and
    `tfpqn route` ask both and answer as one export of the index would; items that changed come
    after those of equal scores.

    A delta goes with the last two bases, and with the one that is being exported. So servers may go
    on to a base at any moment, and to a delta at any other. Everything is known from the folders:
    after a kill, go on as if nothing had been begun.

    Args:
        network: A built `ProductQuantizationNetwork`.
        index: Folder of the index that it coded.
        model: Path of the model, "models/birds": see `CollectionFolders` for what lies beside it.
        num_shards: Servers that hold a base together.
        metrics, batching: As of `save_searcher`.
        **options: Arguments of `Searcher`. Those of lists and stages count for bases alone.

    Example::

        model = GrowingModel(network, "indexes/birds", "models/birds", label_column="label")
        base = model.begin_base()
        model.publish_delta(base)
        model.export_base(base)  # servers can begin
        add_to_index(network, items, "indexes/birds")
        model.publish_delta()  # searches show the items
    """

    def __init__(
        self,
        network: Any,
        index: str | os.PathLike[str],
        model: str | os.PathLike[str],
        *,
        num_shards: int = 1,
        metrics: dict[str, Any] | None = None,
        batching: BatchingParameters | None = None,
        **options: Any,
    ) -> None:
        self.folders = CollectionFolders(model, num_shards)
        self._network, self._index = network, Path(index)
        self._figures: dict[str, Any] = {"metrics": metrics, "batching": batching}
        # A tag may come with the next item: none is a slip.
        self._options = {**options, "known_tags": None}

    def list_bases(self) -> list[Base]:
        """The bases that a delta of now goes with, oldest first.

        A base of an index that had other codebooks or columns is none, nor is one that answers in
        another form.
        """
        schema = describe_index(self._index).schema
        bases = self.folders.list_bases(self._is_usable)
        known = [base for base in bases if describe_index(base.state).schema == schema]
        return known[-KEPT_BASES:]

    def count_changes(self) -> tuple[int, int]:
        """Items that came or changed since the newest base, and ids that it has to hide."""
        difference = self._compare(self.list_bases()[-1:])
        return len(difference.items), len(difference.hidden)

    def publish_delta(self, pending: Base | None = None) -> Path | None:
        """Write the next delta, if it would differ from the last one.

        Args:
            pending: The base that is being exported, if there is one.

        Returns:
            Its version folder; None where there is nothing new, and while more ids have to be
            hidden than a request can name, which takes a new base.
        """
        bases = self.list_bases()
        covered = [*bases, *([pending] if pending and pending not in bases else [])]
        if not covered:
            return None
        state = _digest(describe_index(self._index), covered)
        if (self.folders.newest_delta().get("delta") or {}).get("state") == state:
            return None
        difference = self._compare(covered)
        if len(difference.hidden) > MAX_HIDDEN and len(bases) > 1:
            # The older base may be left; the newer one has to be served.
            covered = covered[len(bases) - 1 :]
            difference = self._compare(covered)
        if len(difference.hidden) > MAX_HIDDEN:
            return None
        delta = Delta(
            tuple(base.export_id for base in covered), tuple(difference.hidden.to_pylist()), state
        )
        options = {name: one for name, one in self._options.items() if name not in _OF_BASES}
        searcher = Searcher(self._network, difference.items, delta=delta, **options)
        return save_searcher(searcher, self.folders.next_delta(), **self._figures)

    def begin_base(self) -> Base:
        """Keep the index as it is now, for the next base; joins its small parts first.

        Raises:
            BlockingIOError: Another process writes the index.
        """
        small = [part for part in describe_index(self._index).parts if part.rows < _ROWS_PER_PART]
        if len(small) > _MOST_SMALL_PARTS:
            compact_index(self._index, rows_per_part=_ROWS_PER_PART, keep_full=True)
        number = self.folders.next_base()
        state = self.folders.states / str(number)
        copy_index(self._index, state)
        return Base(number, uuid.uuid4().hex, state)

    def export_base(self, base: Base) -> list[Path]:
        """Export what was kept, in any process. Publish a delta with `pending` before it."""
        return save_shards(
            self._network,
            base.state,
            self.folders.model / str(base.number),
            self.folders.num_shards,
            export_id=base.export_id,
            **self._figures,
            **self._options,
        )

    def tidy(self, pending: Base | None = None) -> None:
        """Remove bases and deltas that no server needs, and what killed exports left."""
        bases = self.list_bases()
        if bases:  # Else servers have those of other options, until the next is there.
            kept = [*bases, *([pending] if pending else [])]
            self.folders.tidy({base.number for base in kept})

    def _compare(self, bases: Sequence[Base]) -> Difference:
        columns = list_columns(self._options, describe_index(self._index).metadata_columns)
        return compare_index(self._index, [base.state for base in bases], columns)

    def _is_usable(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a base answers in the form that deltas do."""
        quantizer = manifest.get("quantizer", {})
        outputs = manifest.get("signatures", {}).get("search", {}).get("outputs", {})
        has_labels = "labels" in outputs
        num_levels = self._options.get("num_levels") or self._network.quantizer.num_levels
        return (
            quantizer.get("codebook_fingerprint") == network_layout(self._network).fingerprint
            and quantizer.get("num_levels") == num_levels
            and manifest["top_k"] == self._options.get("top_k", 10)
            and manifest["tag_columns"] == list(dict.fromkeys(self._options.get("tag_columns", ())))
            and manifest["calibration"] == self._options.get("calibration")
            and has_labels == bool(self._options.get("label_column"))
            and ("reranked_by" in manifest.get("storage", {})) == bool(self._options.get("rerank"))
        )


def _digest(manifest: Manifest, bases: Sequence[Base]) -> str:
    """What a delta is made of."""
    parts = [part.sha256 for part in manifest.parts]
    text = json.dumps([parts, [base.export_id for base in bases]])
    return hashlib.sha256(text.encode()).hexdigest()
