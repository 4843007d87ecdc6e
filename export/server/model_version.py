"""A loaded version that is served, and the checks of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..interface.signatures import (
    Arrays,
    Signature,
    TensorInfo,
    naming,
    read_inputs,
    require_shape,
    to_array,
)
from ..interface.tensor_protos import from_proto
from ..loading.loaders import SessionLoader, StatusError
from ..loading.op_check import check_ops
from ..model.version_folder import check_files, read_manifest, replay_warmup
from .refusals import bad_request, refusal

DEFAULT_SIGNATURE = "serving_default"
# Rows of one request; a larger search belongs into several requests.
MAX_ROWS = 1024


class ModelVersion:
    """A version that is served. It is unloaded when the last request lets go of it.

    Args:
        number: The version's number.
        model: What has its `signatures` and `signature_definitions`, and runs them: a
            `SessionLoader`, or nothing that runs here where shards do.
    """

    def __init__(self, number: int, model: Any) -> None:
        self.number = number
        self.model = model

    @classmethod
    def load(cls, number: int, folder: Path) -> ModelVersion:
        """Check, load and warm up a version folder; blocks."""
        check_files(folder, read_manifest(folder)["files"])
        check_ops(folder)
        model = SessionLoader(folder)
        replay_warmup(model, folder)
        return cls(number, model)

    def find_signature(self, name: str) -> tuple[str, Signature]:
        """Name and description of a signature, of the default one for an empty name."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.model.signatures:
            raise refusal(
                "FAILED_PRECONDITION",
                f'Serving signature key "{name}" not found. '
                f"Expected one of {sorted(self.model.signatures)}",
            )
        return name, self.model.signatures[name]

    def has_batch_axis(self, signature_name: str) -> bool:
        """Whether requests can be merged along the first axis of all inputs."""
        return all(map(_has_batch_axis, self.model.signatures[signature_name].inputs.values()))

    def run(self, signature_name: str, arrays: Arrays) -> Arrays:
        """Run a signature on checked arrays; blocks."""
        try:
            return self.model.run_checked(signature_name, arrays)
        except StatusError as error:
            raise refusal(error.code, error.message) from error


def read_protos(protos: Mapping[str, Any], name: str, signature: Signature) -> Arrays:
    """A request's tensors as arrays."""
    return read_request(
        protos, name, signature, lambda proto, info: to_array(from_proto(proto), info)
    )


def read_request(
    values: Mapping[str, Any],
    name: str,
    signature: Signature,
    read: Callable[[Any, TensorInfo], np.ndarray],
) -> Arrays:
    """Arrays by input name, of the shapes that the signature wants and of equally many rows.

    `read` makes an array of a value, and raises TypeError or ValueError.
    """
    rows = {}
    try:
        arrays = read_inputs(name, signature, values, read)
        for key, info in signature.inputs.items():
            with naming(key):
                require_shape(arrays[key].shape, info)
            if _has_batch_axis(info):
                rows[key] = len(arrays[key])
    except (TypeError, ValueError) as error:
        raise bad_request(str(error)) from None
    if len(set(rows.values())) > 1:
        raise bad_request(f"all inputs must have equally many rows. Received: {rows}")
    if rows and not 1 <= max(rows.values()) <= MAX_ROWS:
        raise bad_request(f"the inputs must have 1 to {MAX_ROWS} rows. Received: {rows}")
    return arrays


def _has_batch_axis(info: TensorInfo) -> bool:
    return info.shape is not None and info.shape[:1] == (None,)
