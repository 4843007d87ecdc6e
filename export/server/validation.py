"""What a request must be before it may meet other requests in a batch.

The graph holds most of these checks as well. Here they run for each request alone, so that a bad
one cannot fail the others it would have been merged with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfpqn.datasets import check_image_bytes

from ..interface.bounds import MAX_PIXELS
from ..interface.signatures import Arrays, Signature, TensorInfo
from .errors import ServingError

__all__ = ["MAX_ROWS", "SignatureChecker"]

# Rows of one request; a larger search belongs into several requests.
MAX_ROWS = 1024


class SignatureChecker:
    """The checks of one signature of one version.

    Args:
        name: The signature's name.
        signature: Its inputs and outputs.
        manifest: The version's manifest.
        max_rows: Largest number of rows in a request.

    Attributes:
        has_batch_axis: Whether requests can be merged along the first axis of all inputs.
    """

    def __init__(
        self,
        name: str,
        signature: Signature,
        manifest: Mapping[str, Any],
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.name = name
        self.inputs = signature.inputs
        self.outputs = signature.outputs
        self.max_rows = max_rows
        self.max_pixels = int(manifest.get("max_pixels", MAX_PIXELS))
        self.has_batch_axis = all(map(_has_batch_axis, signature.inputs.values()))

    def check_names(self, names: Iterable[str]) -> None:
        """Exactly the signature's inputs."""
        received = set(names)
        if received != self.inputs.keys():
            raise _refusal(
                f"the inputs of signature {self.name!r} must be {sorted(self.inputs)}",
                sorted(received),
            )

    def check_output_filter(self, names: Iterable[str]) -> None:
        """Names of outputs, each once; none for all."""
        names = list(names)
        if not self.outputs.keys() >= set(names) or len(set(names)) < len(names):
            raise _refusal(
                f"output_filter must name outputs of {sorted(self.outputs)}, each once", names
            )

    def check_tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Dtype and shape of one input, before its values are read."""
        info = self.inputs[name]
        if dtype != info.dtype:
            raise _refusal(f"{name} must have dtype {info.dtype}", dtype)
        if not _fits(shape, info.shape):
            raise _refusal(f"{name} must have shape {_in_words(info.shape)}", list(shape))
        if _has_batch_axis(info) and not 1 <= shape[0] <= self.max_rows:
            raise _refusal(f"{name} must have 1 to {self.max_rows} rows", shape[0])

    def check_values(self, arrays: Arrays) -> int:
        """Values of inputs whose dtypes and shapes have been checked.

        Returns:
            Number of rows, 1 for a signature without a batch axis.
        """
        rows = {
            name: len(array) for name, array in arrays.items() if _has_batch_axis(self.inputs[name])
        }
        if len(set(rows.values())) > 1:
            raise _refusal("all inputs must have equally many rows", rows)
        for name, array in arrays.items():
            self._check_array(name, array)
        return next(iter(rows.values())) if self.has_batch_axis and rows else 1

    def _check_array(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise _refusal(f"{name} must be finite", "NaN or infinity")
        elif name == "images":
            self._check_images(name, array.ravel().tolist())
        elif name == "frames":
            self._check_clips(name, array)

    def _check_clips(self, name: str, clips: np.ndarray) -> None:
        for clip in clips.tolist():
            frames = [frame for frame in clip if frame]
            if not frames:
                raise _refusal(f"{name} must hold at least one frame in each clip", "none")
            self._check_images(name, frames)

    def _check_images(self, name: str, images: list[bytes]) -> None:
        for data in images:
            try:
                check_image_bytes(data, self.max_pixels)
            except ValueError as error:
                raise ServingError("INVALID_ARGUMENT", f"{name}: {error}") from error


def _has_batch_axis(info: TensorInfo) -> bool:
    return bool(info.shape) and info.shape is not None and info.shape[0] is None


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...] | None) -> bool:
    if expected is None:
        return True
    if len(shape) != len(expected):
        return False
    return all(want is None or size == want for size, want in zip(shape, expected, strict=True))


def _in_words(shape: tuple[int | None, ...] | None) -> str:
    sizes = ["any" if size is None else str(size) for size in shape or ()]
    return f"[{', '.join(sizes)}]"


def _refusal(wanted: str, received: object) -> ServingError:
    return ServingError("INVALID_ARGUMENT", f"{wanted}. Received: {received}")
