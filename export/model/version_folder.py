"""What lies in a version folder, and reading it: the one place that knows names and formats."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfpqn.files.atomic import sha256_of_file
from tfpqn.files.foreign import read_json, reading, require_within

from ..interface.signatures import Arrays, Signature
from ..interface.tensor_protos import from_proto
from ..loading.loaders import ServedModel, StatusError

MANIFEST_FILE = "manifest.json"
BATCHING_FILE = "batching_params.pbtxt"
README_FILE = "README.txt"
# Where a server looks for requests to replay.
WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
FORMAT_VERSION = 1
# What the server takes for a version; it reads a 64-bit number, and ASCII alone.
VERSION = re.compile("0|[1-9][0-9]{0,17}")


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a version folder; ValueError if it is torn, or of another format."""
    manifest = Path(path) / MANIFEST_FILE
    if not manifest.is_file():
        raise FileNotFoundError(
            "The model folder must be a version folder with manifest.json, as `tfpqn export` "
            f"writes it (models/NAME/VERSION). Received: {str(path)!r}"
        )
    content = read_json(manifest, "the manifest of a version folder, as `tfpqn export` writes it")
    found = content.get("format_version"), type(content.get("files")).__name__
    if found != (FORMAT_VERSION, "dict"):
        raise ValueError(
            f"{str(manifest)!r} must be a manifest that this release reads, with format_version "
            f"{FORMAT_VERSION}, and a dict of files. Received: {found[0]!r}, and a {found[1]}"
        )
    return content


def describe_signatures(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Signatures as a manifest has them: dtype and shape of each input and output, by its name."""
    return {
        name: {
            side: {
                n: {"dtype": info.dtype, "shape": list(info.shape or ())}
                for n, info in infos.items()
            }
            for side, infos in signature._asdict().items()
        }
        for name, signature in signatures.items()
    }


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file but the manifest, by its path in the folder."""
    return {name: _describe_file(folder / name) for name in find_files(folder)}


def find_files(folder: Path) -> list[str]:
    """Paths in the folder of all its files but the manifest, sorted."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in files}
    return sorted(names - {MANIFEST_FILE})


def check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Compare files with the sizes and checksums that a manifest gives for them."""
    for name, expected in files.items():
        require_within(folder / name, folder.parent)  # Versions may share a file.
        if not (folder / name).is_file():
            raise ValueError(f"The version folder must hold the file {name!r}. Received: none")
        received = _describe_file(folder / name)
        if received != expected:
            raise ValueError(
                f"The version folder must be as its manifest says: file {name}: expected "
                f"{expected}. Received: {received}"
            )


def _describe_file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def read_warmup_requests(folder: Path) -> Iterator[tuple[str, Arrays]]:
    """Signature name and inputs of each warm-up request; nothing where there is no file."""
    path = folder / WARMUP_FILE
    if not path.is_file():
        return
    with reading(path, "a TFRecord file of PredictionLog with warm-up requests"):
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            log = PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise ValueError(f"no predict request as record {number}")
            request = log.predict_log.request
            inputs = {name: from_proto(value) for name, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs


def replay_warmup(model: ServedModel, folder: Path) -> list[Arrays]:
    """The model's answers to its warm-up requests; ValueError if it refuses one."""
    answers = []
    for number, (name, inputs) in enumerate(read_warmup_requests(folder)):
        try:
            answers.append(model.run(name, inputs))
        except (StatusError, TypeError, ValueError) as error:
            raise ValueError(
                f"The model must answer its warm-up requests. Received: warm-up request {number} "
                f"({name}) refused: {' '.join(str(error).split())}"
            ) from error
    return answers
