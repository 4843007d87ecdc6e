"""Version folders: a searcher written for TensorFlow Serving, and read back."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpqn import __version__
from tfpqn.files import atomic_directory

from .items import pack_items
from .loaders import SavedModelLoader
from .op_check import check_ops, list_ops, read_saved_model
from .searcher import Searcher, SearchResult

MANIFEST_FILE = "manifest.json"
# What the server takes for a version; it reads a 64-bit number, and ASCII alone.
VERSION = re.compile("[0-9]{1,18}")


def save_searcher(
    searcher: Searcher, path: str | os.PathLike[str], *, metrics: dict[str, Any] | None = None
) -> Path:
    """Write a searcher as a version folder, `MODEL/NUMBER`, that a stock server loads.

    The folder is written beside its place and renamed when it is whole, so that a server which
    polls the model's folder never sees half a version. It holds the SavedModel and
    `manifest.json`.

    Args:
        searcher: What to save.
        path: The version folder; its name is a whole number, as TensorFlow Serving expects.
        metrics: Figures of the network for the manifest.

    Returns:
        The version folder.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The folder's name is no version number, the network's codebooks are no longer
            those of the index, or the graph holds an op that the stock server lacks (the message
            names it).
    """
    path = Path(path)
    if not VERSION.fullmatch(path.name):
        raise ValueError(
            "The output folder's name must be a version number, as in models/birds/1. "
            f"Received: {str(path)!r}"
        )
    if path.exists():
        raise FileExistsError(
            "The output folder must be a new version. Received: "
            f"{str(path)!r}, which exists; take the next number"
        )
    searcher.require_own_codebooks()
    _require_json(metrics)
    with atomic_directory(path) as folder:
        tf.saved_model.save(searcher, str(folder), signatures=searcher.signatures)
        check_ops(folder)
        manifest = _describe(searcher, folder, metrics)
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
    return path


def _require_json(metrics: dict[str, Any] | None) -> None:
    """Before the long work: figures that JSON cannot hold would spoil the manifest."""
    try:
        json.dumps(metrics, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metrics must hold finite numbers and strings alone. Received: {metrics} ({error})"
        ) from error


def _describe(searcher: Searcher, folder: Path, metrics: dict[str, Any] | None) -> dict[str, Any]:
    with SavedModelLoader(folder) as loaded:
        signatures = {
            name: {
                side: {n: {"dtype": i.dtype, "shape": i.shape} for n, i in infos.items()}
                for side, infos in signature._asdict().items()
            }
            for name, signature in loaded.signatures.items()
        }
    return {
        "format_version": 1,
        "tfpqn_version": __version__,
        "tensorflow_version": tf.__version__,
        "keras_version": keras.__version__,
        "numpy_version": importlib.metadata.version("numpy"),
        "quantizer": {
            "kind": searcher.quantizer_kind,
            "code_length": searcher.code_length,
            "num_levels": searcher.num_levels,
            "num_codewords": searcher.layout.num_codewords,
            "bytes_per_code": searcher.code_length * searcher.layout.code_dtype.itemsize,
            "embedding_dim": searcher.embedding_dim,
            "codebook_fingerprint": searcher.layout.fingerprint,
        },
        "num_items": searcher.num_items,
        "id_type": searcher.id_type,
        "top_k": searcher.top_k,
        "items": "clips" if searcher.takes_clips else "images",
        "image_shape": list(searcher.image_shape),
        "signatures": signatures,
        "ops": list_ops(read_saved_model(folder)),
        "metrics": metrics,
    }


class SavedSearcher:
    """A version folder loaded with plain TensorFlow; the package's layers are not used.

    Attributes:
        manifest: The content of `manifest.json`.

    Raises:
        FileNotFoundError: The folder holds no SavedModel or no manifest.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        manifest = Path(path) / MANIFEST_FILE
        if not manifest.is_file():
            raise FileNotFoundError(
                "The model folder must be a version folder with manifest.json, as `tfpqn export` "
                f"writes it (models/NAME/VERSION). Received: {str(path)!r}"
            )
        try:
            self.manifest = json.loads(manifest.read_text())
        except ValueError as error:
            raise ValueError(
                "The model folder's manifest.json must be whole, as `tfpqn export` writes it. "
                f"Received: {str(manifest)!r} ({error})"
            ) from error
        self._model = SavedModelLoader(path)

    def __call__(self, items: Sequence[Any]) -> SearchResult:
        """Search with encoded images, or clips of encoded frames; see `Searcher`."""
        name = "frames" if self.takes_clips else "images"
        return self._search("search", {name: pack_items(items, self.takes_clips)})

    @property
    def takes_clips(self) -> bool:
        """Whether the model searches with clips rather than with images."""
        return self.manifest.get("items") == "clips"

    def search_by_embedding(self, embeddings: np.ndarray) -> SearchResult:
        """Search with embeddings `[batch, embedding_dim]`, normalised or not."""
        return self._search(
            "search_by_embedding", {"embeddings": np.asarray(embeddings, np.float32)}
        )

    def run(self, signature_name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Run any signature on arrays by input name."""
        return self._model.run(signature_name, inputs)

    def _search(self, signature_name: str, inputs: dict[str, Any]) -> SearchResult:
        outputs = self.run(signature_name, inputs)
        ids = outputs["ids"]
        if self.manifest["id_type"] == "string":
            texts = [id_.decode() for id_ in ids.flat]
            ids = np.array(texts, object).reshape(ids.shape)
        return SearchResult(ids, outputs["scores"])


def load_searcher(path: str | os.PathLike[str]) -> SavedSearcher:
    """Load a version folder that `save_searcher` wrote."""
    return SavedSearcher(path)
