"""Version folders: a searcher written for TensorFlow Serving, and read back."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpqn import __version__
from tfpqn.files.atomic import atomic_directory
from tfpqn.items import items_of_inputs

from ..interface.batching_parameters import BatchingParameters
from ..interface.delta import Delta
from ..interface.tensor_protos import read_signatures
from ..loading.loaders import SavedModelLoader
from ..loading.op_check import check_ops, list_ops, read_saved_model
from .folder_readme import write_readme
from .search_methods import SearchMethods
from .searcher import Searcher
from .version_folder import (
    BATCHING_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    README_FILE,
    VERSION,
    check_files,
    describe_signatures,
    list_files,
    read_manifest,
)
from .warmup import write_warmup_requests


def save_searcher(
    searcher: Searcher,
    path: str | os.PathLike[str],
    *,
    metrics: dict[str, Any] | None = None,
    batching: BatchingParameters | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a searcher as a version folder, `MODEL/NUMBER`, that a stock server loads.

    The folder is written beside its place and renamed when it is whole, so that a server which
    polls the model's folder never sees half a version. It holds the SavedModel, warm-up requests
    for every signature, `batching_params.pbtxt`, `manifest.json` and a `README.txt` with the lines
    that serve it.

    Args:
        searcher: What to save.
        path: The version folder; its name is a whole number, as TensorFlow Serving expects.
        metrics: Figures of the network for the manifest.
        batching: How a server should merge requests; `default_batching(searcher)` if None.
        overwrite: Whether a version that is there is replaced, in one step. A server that has
            loaded it goes on with the former: give it the next number instead.

    Returns:
        The version folder.

    Raises:
        FileExistsError: The folder exists, and `overwrite` is not set.
        ValueError: The folder's name is no version number, the network's codebooks are no longer
            those of the index, or the graph holds an op that the stock server lacks (the message
            names it).
    """
    path = Path(path)
    require_new_version(path, overwrite=overwrite)
    searcher.require_own_codebooks()
    # Before the long work: figures that JSON cannot hold would spoil the manifest.
    json.dumps(metrics, allow_nan=False)
    with atomic_directory(path, overwrite=overwrite) as folder:
        write_version(searcher, folder, path, metrics, batching or default_batching(searcher))
    return path


def write_version(
    searcher: Searcher,
    folder: Path,
    path: Path,
    metrics: dict[str, Any] | None,
    batching: BatchingParameters,
) -> None:
    """Write all files of a version into a folder, which shall become `path`."""
    place = path.resolve()
    shard = searcher.shard
    model_name = place.parent.name.removesuffix(shard.suffix if shard else "")
    tf.saved_model.save(searcher, str(folder), signatures=searcher.signatures)
    check_ops(folder)
    sizes = batching.allowed_batch_sizes or sorted({1, batching.max_batch_size})
    write_warmup_requests(searcher, folder, model_name, sizes)
    (folder / BATCHING_FILE).write_text(batching.to_text(), encoding="utf-8")
    manifest = _describe(searcher, folder, metrics)
    readme = write_readme(manifest, model_name, place)
    (folder / README_FILE).write_text(readme, encoding="utf-8")
    manifest["files"] = list_files(folder)
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def require_new_version(path: Path, *, overwrite: bool = False) -> None:
    """Raises FileExistsError or ValueError unless the path can become a version folder.

    With `overwrite` it may be one already, and nothing else.
    """
    if not VERSION.fullmatch(path.name):
        raise ValueError(
            "The output folder's name must be a version number, as in models/birds/1. "
            f"Received: {str(path)!r}"
        )
    if path.exists() and not (overwrite and (path / "saved_model.pb").is_file()):
        raise FileExistsError(
            "The output folder must be a new version. Received: "
            f"{str(path)!r}, which exists; take the next number"
        )


def default_batching(searcher: Any) -> BatchingParameters:
    """Parameters for a server's batching that suit a searcher, or a network's items.

    Inputs are not padded to one length: the stock server pads all rows of a request by its first
    value, and another item's id or tag would become their own.
    """
    return BatchingParameters(max_batch_size=searcher.items.server_batch)


def sha256_of_values(values: np.ndarray) -> str:
    """SHA-256 of an array's values, float32, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def _describe(searcher: Searcher, folder: Path, metrics: dict[str, Any] | None) -> dict[str, Any]:
    model = read_saved_model(folder)
    return {
        "format_version": FORMAT_VERSION,
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
            "codebooks_sha256": sha256_of_values(searcher.quantizer_variables[0].numpy()),
        },
        "num_items": searcher.num_items,
        "shard": searcher.shard and searcher.shard._asdict(),
        "delta": searcher.delta and _describe_delta(searcher.delta),
        "storage": searcher.storage.describe(),
        "bytes_per_item": _bytes_per_item(searcher),
        "variables": stored_shapes(folder),
        "id_type": searcher.id_type,
        "top_k": searcher.top_k,
        "items": searcher.items.kind,
        "image_shape": list(searcher.image_shape),
        "num_frames": searcher.num_frames,
        "max_pixels": searcher.max_pixels,
        "tag_columns": list(searcher.tag_columns),
        "calibration": searcher.calibration,
        "signatures": describe_signatures(read_signatures(model.meta_graphs[0])),
        "ops": list_ops(model),
        "metrics": metrics,
    }


def _describe_delta(delta: Delta) -> dict[str, Any]:
    return {
        "bases": list(delta.bases),
        "num_hidden": len(delta.hidden),
        "state": delta.state,
    }


def _bytes_per_item(searcher: Searcher) -> dict[str, float]:
    """What the collection takes in memory, exactly; of string ids their characters alone."""
    sizes = {
        name: sum(map(_num_bytes, module.variables)) / max(searcher.num_items, 1)
        for name, module in (("codes", searcher.storage), ("ids", searcher.ids))
    }
    if searcher.storage.embeddings is not None:
        sizes["embeddings"] = 2 * searcher.embedding_dim
        sizes["codes"] -= sizes["embeddings"]
    return sizes


def _num_bytes(variable: tf.Variable) -> int:
    if variable.dtype == tf.string:
        return int(tf.reduce_sum(tf.strings.length(variable)))
    return int(np.prod(variable.shape)) * variable.dtype.size


def stored_shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of the collection's variables by their names in the version folder."""
    return {
        name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): shape
        for name, shape in tf.train.list_variables(str(folder / "variables" / "variables"))
        if name.startswith(("storage/", "ids/"))
    }


class SavedSearcher(SearchMethods):
    """A version folder loaded with plain TensorFlow; the package's layers are not used.

    Every file is compared with the checksum in the manifest first.

    Attributes:
        manifest: The content of `manifest.json`.

    Raises:
        FileNotFoundError: The folder holds no SavedModel or no manifest.
        ValueError: A file is missing, changed, or leads out of the model's folder, or TensorFlow
            cannot load it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.manifest = read_manifest(path)
        check_files(Path(path), self.manifest["files"])
        self._model = SavedModelLoader(path)
        search = self._model.signatures["search"]
        self.items, self.id_type = items_of_inputs(search.inputs), search.outputs["ids"].dtype
        self.image_shape = self.manifest["image_shape"]
        shape = self._model.signatures["search_by_embedding"].inputs["embeddings"].shape
        self.embedding_dim = (shape or (0,))[-1] or 0

    def run(self, signature_name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        return self._model.run(signature_name, inputs)


def load_searcher(path: str | os.PathLike[str]) -> SavedSearcher:
    """Load a version folder that `save_searcher` wrote; see `SavedSearcher`."""
    return SavedSearcher(path)
