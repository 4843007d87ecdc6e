"""Checking a version folder as its readers will see it, before it is handed to a server."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfpqn._command_line import own_python
from tfpqn.files.foreign import reading
from tfpqn.items import items_of_inputs
from tfpqn.layers.quantizer import require_usable

from ..interface.batching_parameters import BatchingParameters
from ..interface.signatures import Arrays
from ..loading.loaders import SavedModelLoader, ServedModel, SessionLoader
from ..loading.op_check import check_ops, list_ops, read_saved_model
from .saved_model import sha256_of_values, stored_shapes
from .version_folder import (
    BATCHING_FILE,
    check_files,
    describe_signatures,
    find_files,
    read_manifest,
    replay_warmup,
)

# Its own process: switching XLA off, as the stock server does, cannot be undone.
NATIVE_PROGRAM = (
    "from tfpqn.export.model.verify import replay_natively; replay_natively(*sys.argv[1:])"
)
NATIVE_SECONDS = 600
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What was checked and found in order.

    Attributes:
        num_files: Files compared with their checksums.
        num_items: Items of the collection.
        num_ops: Different ops of the graph, all known to the stock server.
        num_requests: Warm-up requests replayed by each reader.
        readers: The readers that loaded the folder and gave the same answers.
    """

    num_files: int
    num_items: int
    num_ops: int
    num_requests: int
    readers: tuple[str, ...]


def verify_version(path: str | os.PathLike[str]) -> VerifyReport:
    """Check a version folder: files, sizes, codebooks, ops, signatures, warm-up, three readers.

    The folder is loaded by `tf.saved_model.load`, by a TensorFlow 1 session, and by TensorFlow's C
    API in a process of its own, with XLA disabled as the stock server has it. All must give the
    same answers to the warm-up requests.

    Args:
        path: The version folder, `MODEL/NUMBER`.

    Raises:
        FileNotFoundError: It is no version folder, which has a manifest.
        ValueError: Something is not as the manifest says, an op is unknown to the stock server, or
            a reader refuses the folder or answers differently; the message names it.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    try:
        return _verify(folder, manifest)
    except (OSError, ValueError):
        raise
    # A manifest may lack a name, or hold something else under it.
    except Exception:
        with reading(folder, "a version folder with a manifest of its own"):
            raise


def _verify(folder: Path, manifest: Mapping[str, Any]) -> VerifyReport:
    num_files = _check_files(folder, manifest)
    check_ops(folder)
    _require_equal("ops", manifest["ops"], list_ops(read_saved_model(folder)))
    _check_variables(folder, manifest)
    BatchingParameters.read(folder / BATCHING_FILE)
    with SavedModelLoader(folder) as model:
        _check_signatures(model, manifest)
        expected = replay_warmup(model, folder)
    with SessionLoader(folder) as session:
        received = replay_warmup(session, folder)
    _require_same_answers("a TensorFlow 1 session", received, expected)
    _require_same_answers("the C API", _replay_in_own_process(folder), expected)
    readers = ("tf.saved_model.load", "TensorFlow 1 session", "C API without XLA")
    return VerifyReport(
        num_files, manifest["num_items"], len(manifest["ops"]), len(expected), readers
    )


def replay_natively(folder: str, output: str) -> None:
    """Answer the warm-up requests through the C API; write the answers as prediction logs."""
    from ..loading.native_loader import NativeLoader

    with NativeLoader(folder) as model, tf.io.TFRecordWriter(output) as writer:
        for answer in replay_warmup(model, Path(folder)):
            log = PredictionLog()
            for name, values in answer.items():
                tensor = tf.make_tensor_proto(values)
                log.predict_log.response.outputs[name].CopyFrom(tensor)
            writer.write(log.SerializeToString())


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> int:
    expected, found = set(manifest["files"]), set(find_files(folder))
    if expected != found:
        raise ValueError(
            "The version folder must hold the files of its manifest. "
            f"Received: {sorted(found - expected)} more, and without {sorted(expected - found)}"
        )
    check_files(folder, manifest["files"])
    return len(expected)


def _check_variables(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Sizes of what holds the collection, and the codebooks."""
    shapes = stored_shapes(folder)
    _require_equal("variables", manifest["variables"], shapes)
    values = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    _require_equal("number of items", manifest["num_items"], _count_items(values, shapes))
    codebooks = values.get_tensor("quantizer_variables/0/.ATTRIBUTES/VARIABLE_VALUE")
    require_usable(codebooks)
    expected = manifest["quantizer"]["codebooks_sha256"]
    _require_equal("sha256 of codebooks", expected, sha256_of_values(codebooks))


def _count_items(values: Any, shapes: Mapping[str, Any]) -> int:
    """Number of items of the storage: of their positions, where codes have another order."""

    def read(ending: str) -> list[np.ndarray]:
        names = [name for name in shapes if name.endswith(ending)]
        return [values.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in names]

    # Distinct codes in lists have positions too, no more of them; none is filled up.
    counts = [np.count_nonzero(positions >= 0) for positions in read("/positions")]
    return int(max(counts) if counts else read("/saved_num_items")[0])


def _check_signatures(model: ServedModel, manifest: Mapping[str, Any]) -> None:
    _require_equal("signatures", manifest["signatures"], describe_signatures(model.signatures))
    search = model.signatures["search"]
    ids = search.outputs["ids"]
    _require_equal("items", manifest["items"], items_of_inputs(search.inputs).kind)
    _require_equal("id_type", manifest["id_type"], ids.dtype)
    _require_equal("top_k", manifest["top_k"], (ids.shape or (None,))[-1])
    has_tags, has_matches = bool(manifest["tag_columns"]), manifest["calibration"] is not None
    _require_equal("tags", has_tags, "search_with_filters" in model.signatures)
    _require_equal("calibration", has_matches, "matches" in search.outputs)


def _replay_in_own_process(folder: Path) -> list[Arrays]:
    with tempfile.TemporaryDirectory() as temporary:
        output = str(Path(temporary) / "answers")
        command = own_python(NATIVE_PROGRAM, str(folder), output)
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=NATIVE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ValueError(
                "The warm-up requests must be answered through TensorFlow's C API within "
                f"{NATIVE_SECONDS} seconds. Received: no answer yet"
            ) from None
        if process.returncode != 0:
            reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(
                "The folder must load and answer through TensorFlow's C API, with XLA disabled as "
                f"the stock server has it. Received: {reason}"
            )
        records = tf.data.TFRecordDataset(output).as_numpy_iterator()
        logs = [PredictionLog.FromString(record).predict_log.response.outputs for record in records]
    return [{name: tf.make_ndarray(value) for name, value in log.items()} for log in logs]


def _require_same_answers(reader: str, received: list[Arrays], expected: list[Arrays]) -> None:
    for number, (one, other) in enumerate(zip(received, expected, strict=True)):
        for name, values in other.items():
            if not _is_same(one[name], values):
                raise ValueError(
                    f"All readers must answer alike. Received: other {name} through {reader} to "
                    f"warm-up request {number}"
                )


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    if other.dtype.kind == "f":
        return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=TOLERANCE)
    return np.array_equal(one, other)


def _require_equal(what: str, expected: Any, received: Any) -> None:
    if expected != received:
        raise ValueError(
            f"The version folder must be as its manifest says: {what}: expected "
            f"{str(expected)[:200]}. Received: {str(received)[:200]}"
        )
