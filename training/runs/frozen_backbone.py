"""Training on features of a frozen backbone, computed once and kept in a run's folder."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from tfpqn.datasets import ImageSet, Splits, VectorSet
from tfpqn.files.atomic import sha256_of_file, write_file_atomically
from tfpqn.files.npz import read_npz

from ..loops.progress import shown_steps
from .initial_run import copy_weights
from .network_file import NETWORK_FILE
from .run import Run

BATCH_SIZE = 64
# What is not the backbone.
LEARNED = ("embedding", "quantizer", "classifier")


class FrozenBackbone:
    """The backbone of a run with `freeze_backbone`, before and after the training of the rest.

    Args:
        run: The run, with nothing left open.
        splits: Its images.
        progress: Whether to show on stderr how many features are computed.
    """

    def __init__(self, run: Run, splits: Splits, progress: bool = True) -> None:
        self.run = run
        self.progress = progress
        self.images = splits
        self._network: Any = None
        initial = run.config.model.initial_run
        self._start = None if initial is None else Run.open(initial)

    def splits(self, *, with_queries: bool) -> Splits:
        """The features of the training images; those of database and queries if they are needed."""
        train = self._features(self.images.train)
        if not with_queries:
            return Splits(train, train, train)
        is_one = self.images.database is self.images.train
        database = train if is_one else self._features(self.images.database)
        return Splits(train, database, self._features(self.images.query))

    def complete(self, head: Any) -> Any:
        """The network from images, with what the network from features has learned."""
        network = self._build(head.num_classes)
        copy_weights(head, network, LEARNED)
        network.optimizer.build(network.trainable_variables)
        return network

    def head(self, network: Any) -> Any:
        """The network from features, with what the network from images has learned."""
        features = self._features(self.images.query)
        head = self.run.config.build_network(features.image_shape, 1, network.num_classes)
        copy_weights(network, head, LEARNED)
        return head

    def _build(self, num_classes: int | None) -> Any:
        network = self.run.config.build_network(self.images.train.image_shape, 1, num_classes)
        if self._start is not None:
            copy_weights(self._start.load_network(), network, ("backbone",))
        network.backbone.trainable = False
        return network

    def _features(self, images: ImageSet) -> VectorSet:
        """Features of a set: those kept in the initial run's folder or the own, or computed."""
        place = Path("features", f"{self._key(images)}.npz")
        paths = [run.folder / place for run in (self._start, self.run) if run is not None]
        kept = next((path for path in paths if path.is_file()), None)
        if kept is not None:
            arrays = read_npz(kept, ["vectors", "rows"])
        else:
            arrays = self._compute(images)
            if self.run.writes:
                _keep(arrays, paths)
        part = images.subset(arrays["rows"])
        return VectorSet(arrays["vectors"], part.labels, part.ids, part.label_names)

    def _compute(self, images: ImageSet) -> dict[str, np.ndarray]:
        """Features `[images, num_features]` of those that can be read, and their rows."""
        if self._network is None:
            config, num_labels = self.run.config, len(images.label_names) or 1
            weight = config.loss.classification_weight
            self._network = self._build(num_labels if weight else None)
        vectors, rows = [], []
        done = 0
        with shown_steps(self.progress) as show:
            for batch in images.batches(BATCH_SIZE):
                vectors.append(_pool(self._network.backbone.predict_on_batch(batch.images)))
                rows.append(batch.positions)
                show("Features", done := done + len(batch.positions), len(images))
        return {"vectors": np.concatenate(vectors), "rows": np.concatenate(rows)}

    def _key(self, images: ImageSet) -> str:
        """Digest of all that features depend on: backbone with weights, how it is used, images."""
        model, size = self.run.config.model, self.run.config.data.image_size
        files = [(str(id_), images.stamp(row)) for row, id_ in enumerate(images.ids)]
        weights = self._start.folder / NETWORK_FILE if self._start else str(model.weights)
        # Left out where they are the usual ones, so that features kept so far stay valid.
        rest = [] if model.precision == "float32" else [model.precision]
        rest += ["mirror"] if model.mirror else []
        facts = (model.backbone, _digest(str(weights)), size, images.image_shape, files, *rest)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _keep(arrays: dict[str, np.ndarray], paths: list[Path]) -> None:
    """Write features where other runs find them, or where that cannot be in the own folder."""
    content = io.BytesIO()
    np.savez(content, vectors=arrays["vectors"], rows=arrays["rows"])
    try:
        write_file_atomically(paths[0], content.getvalue())
    except OSError:
        # The initial run may be another's, whose folder only reads.
        write_file_atomically(paths[-1], content.getvalue())


def _digest(weights: str) -> str:
    """Of a file its digest, of a folder those of its files; of other weights their name."""
    path = Path(weights)
    if not path.exists() or weights == "imagenet":
        return weights
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return " ".join(sha256_of_file(file) for file in files)


def _pool(features: Any) -> np.ndarray:
    """Feature maps averaged over height and width, as a network does."""
    features = np.asarray(ops.convert_to_numpy(features), np.float32)
    return features.mean(axis=(1, 2)) if features.ndim == 4 else features
