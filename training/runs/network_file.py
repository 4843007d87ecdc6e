"""The file of a trained network: written in one step, and read as what it is or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from tfpqn.files.foreign import reading
from tfpqn.models import ProductQuantizationNetwork
from tfpqn.models.hub_presets import import_hub

NETWORK_FILE = "network.keras"
# Keras stores weights as they are; only the small files beside them could be compressed.
LARGEST_GROWTH = 16
FREE_BYTES = 2**20


def save_network(network: keras.Model, path: Path) -> None:
    """Save beside and rename, so that `path` is never half a file."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.keras")
    try:
        network.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_network(path: Path) -> Any:
    """The network of a file; one that torch trained is not compiled on another backend.

    Raises:
        ValueError: The file is damaged, holds something else, or would grow beyond all measure when
            it is unpacked.
    """
    with reading(path, "a network, as training saves it"):
        _require_network(path)
        try:
            return keras.saving.load_model(path)
        except TypeError:
            # On torch Keras has optimizers of its own, which no other backend can load.
            return keras.saving.load_model(path, compile=False)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were saving in a run's folder; for who holds its lock."""
    for path in folder.glob(f".{Path(NETWORK_FILE).stem}-*.keras"):
        path.unlink(missing_ok=True)


def _require_network(path: Path) -> None:
    """Before Keras unpacks the file: it asks neither how large it becomes nor what it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > LARGEST_GROWTH * path.stat().st_size + FREE_BYTES:
            raise ValueError(f"a file that unpacks to {total:,} bytes")
        names = [entry.filename for entry in entries]
        outside = [n for n in names if n.startswith("/") or ".." in PurePosixPath(n).parts]
        if outside or len(set(names)) < len(names):
            raise ValueError(f"parts that lie outside of it or that it has twice, among {names}")
        content = archive.read("config.json")
    if b'"keras_hub' in content:
        import_hub()
    config = json.loads(content)
    wanted = keras.saving.get_registered_name(ProductQuantizationNetwork)
    found = config.get("registered_name") or config.get("class_name")
    if found != wanted:
        raise ValueError(f"a model of the class {found!r}, not {wanted!r}")
