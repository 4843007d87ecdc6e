"""A model's folder on disk: its numbered versions, and whether one of them may be loaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfpqn.files import sha256_of_file

from ..op_check import check_ops

__all__ = ["check_version", "find_versions", "read_warmup_requests", "take_stamp"]

MANIFEST_FILE = "manifest.json"
WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
# The bound that TensorFlow Serving sets itself.
MAX_WARMUP_RECORDS = 1000
_VERSION = re.compile("[0-9]{1,18}")

Stamp = tuple[tuple[str, int, int], ...]


def find_versions(base_path: Path) -> dict[int, Path]:
    """Numbered sub-folders of a model's folder, by number; all else is ignored."""
    folders: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _VERSION.fullmatch(entry.name) and entry.is_dir():
                folders.setdefault(int(entry.name), Path(entry.path))
    return folders


def take_stamp(folder: Path) -> Stamp:
    """Names, sizes and times of a folder's files: another stamp says that something changed."""
    found = []
    for path in _walk(folder):
        status = path.lstat()
        found.append((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def check_version(folder: Path, base_path: Path) -> dict[str, Any]:
    """Look a version folder over before it is loaded.

    Returns:
        Its manifest.

    Raises:
        ValueError: The folder or a file in it leads out of the model's folder, the manifest is
            missing or does not describe the files that are there, or the graph holds an op that
            the stock server lacks.
        OSError: A file cannot be read.
    """
    _require_within(folder, base_path.resolve())
    manifest = _read_manifest(folder)
    _check_files(folder, manifest.get("files", {}))
    check_ops(folder)
    return manifest


def _require_within(folder: Path, base_path: Path) -> None:
    for path in (folder, *_walk(folder)):
        if not path.resolve().is_relative_to(base_path):
            raise ValueError(
                "A version must lie within the model's folder, with all that belongs to it. "
                f"Received: {str(path)!r}, which leads out of it"
            )


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder; folders that are symbolic links are named and not entered."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"A version must hold {MANIFEST_FILE}, as `tfpqn export` writes it. "
            f"Received: {str(folder)!r} without it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{MANIFEST_FILE} must be whole. Received: {str(path)!r} ({error})"
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files", {}), dict):
        raise ValueError(f"{MANIFEST_FILE} must be a description. Received: {str(path)!r}")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Compare files with the sizes and fingerprints that the manifest gives for them."""
    for name, expected in files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(
                f"{MANIFEST_FILE} must name files within the version folder. Received: {name!r}"
            )
        path = folder / name
        if not path.is_file():
            raise ValueError(f"The version must hold the file {name!r}. Received: none")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ValueError(
                f"The file {name!r} must have {expected['bytes']} bytes. Received: {size}"
            )
        if sha256_of_file(path) != expected["sha256"]:
            raise ValueError(
                f"The file {name!r} must have the SHA-256 that {MANIFEST_FILE} gives. "
                "Received: another one"
            )


def read_warmup_requests(folder: Path) -> Iterator[Any]:
    """The version's warm-up requests as `PredictRequest` protos, if it has any.

    Raises:
        ValueError: A record is torn or is no request for Predict, or there are too many.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        return
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    try:
        for number, record in enumerate(records, start=1):
            if number > MAX_WARMUP_RECORDS:
                raise ValueError(
                    f"The warm-up requests must be at most {MAX_WARMUP_RECORDS}. Received: more"
                )
            log = PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise ValueError(
                    "The warm-up requests must be for Predict. "
                    f"Received: {log.WhichOneof('log_type')} in record {number}"
                )
            yield log.predict_log.request
    except tf.errors.OpError as error:
        raise ValueError(
            f"The warm-up requests must be a whole TFRecord file. Received: {error.message}"
        ) from error
