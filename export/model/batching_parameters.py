"""Parameters of a server's dynamic batching, in the file format of TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    text_format,
    wrappers_pb2,
)

_LARGEST = 2**31 - 1
_LEAST = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
}
_WRAPPED = dict.fromkeys(_LEAST, ".google.protobuf.Int64Value")
_WRAPPED["thread_pool_name"] = ".google.protobuf.StringValue"
# Fields of `tensorflow.serving.BatchingParameters` in `session_bundle_config.proto`, which
# tensorflow-serving-api does not bring. Labels and types are protobuf's numbers for optional and
# repeated, and for int64, bool and messages.
_FIELDS: list[dict[str, Any]] = [
    *(
        {"name": name, "number": number, "label": 1, "type": 11, "type_name": kind}
        for number, (name, kind) in enumerate(_WRAPPED.items(), start=1)
    ),
    {"name": "allowed_batch_sizes", "number": 6, "label": 3, "type": 3},
    {"name": "pad_variable_length_inputs", "number": 7, "label": 1, "type": 8},
]


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
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                "allowed_batch_sizes must ascend and end with max_batch_size "
                f"{self.max_batch_size}. Received: {sizes}"
            )
        if sizes and sizes[0] < 1:
            raise ValueError(f"allowed_batch_sizes must be at least 1. Received: {sizes}")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BatchingParameters:
        """Read a text proto such as a version folder's `batching_params.pbtxt`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It cannot be parsed, or a value is out of range.
        """
        message = _message_class()()
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
        message = json_format.ParseDict(dataclasses.asdict(self), _message_class()())
        return text_format.MessageToString(message)


@lru_cache(maxsize=1)
def _message_class() -> Any:
    """The message's class, made in a pool of its own."""
    file = {
        "name": "tfpqn/batching_parameters.proto",
        "syntax": "proto3",
        "dependency": [wrappers_pb2.DESCRIPTOR.name],
        "message_type": [{"name": "BatchingParameters", "field": _FIELDS}],
    }
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(json_format.ParseDict(file, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))
