"""Parameters of a server's dynamic batching, in the file format of TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from google.protobuf import text_format

from . import messages

_LARGEST = 2**31 - 1
_LEAST = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
}


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """How requests are merged; names and meaning are TensorFlow Serving's.

    Attributes:
        max_batch_size: Most rows in a merged batch.
        batch_timeout_micros: How long a batch waits to become full, in microseconds.
        max_enqueued_batches: Batches that wait at most; further requests are refused.
        num_batch_threads: Batches that run at the same time.
        allowed_batch_sizes: Sizes to which batches are padded, ascending, the last being
            `max_batch_size`; any size if empty.
        pad_variable_length_inputs: Whether inputs of different lengths are padded to one.

    Raises:
        ValueError: A number is out of range, or the sizes are not as described.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 2000
    max_enqueued_batches: int = 64
    num_batch_threads: int = 2
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not least <= value <= _LARGEST:
                raise ValueError(
                    f"{name} must be in {least} .. {_LARGEST}. Received: {name}={value}"
                )
        sizes = self.allowed_batch_sizes
        if sizes and ([0, *sizes] != sorted({0, *sizes}) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                "allowed_batch_sizes must ascend from at least 1 and end with max_batch_size "
                f"{self.max_batch_size}. Received: {sizes}"
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BatchingParameters:
        """Read a text proto such as a version folder's `batching_params.pbtxt`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It cannot be parsed, or a value is out of range.
        """
        message = messages.BatchingParameters()
        try:
            text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise ValueError(
                "The batching parameters must be a text proto like `max_batch_size { value: 64 }`. "
                f"Received: {os.fspath(path)!r} ({error})"
            ) from error
        numbers = {name: getattr(message, name).value for name in _LEAST if message.HasField(name)}
        return cls(
            **numbers,
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )

    def to_text(self) -> str:
        """The text proto that TensorFlow Serving's `--batching_parameters_file` names."""
        message = messages.BatchingParameters(
            allowed_batch_sizes=self.allowed_batch_sizes,
            pad_variable_length_inputs=self.pad_variable_length_inputs,
        )
        for name in _LEAST:
            getattr(message, name).value = getattr(self, name)
        return text_format.MessageToString(message)
