"""Parameters of a server's dynamic batching, in the file format of TensorFlow Serving.

The proto is `tensorflow.serving.BatchingParameters` of `session_bundle_config.proto`, which
tensorflow-serving-api does not bring; the fields used here are declared again.
"""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

# Name, number and kind of each field of the proto.
_WRAPPED = {
    "max_batch_size": (1, "Int64Value"),
    "batch_timeout_micros": (2, "Int64Value"),
    "max_enqueued_batches": (3, "Int64Value"),
    "num_batch_threads": (4, "Int64Value"),
    "thread_pool_name": (5, "StringValue"),
}
_LARGEST = 2**31 - 1


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
        for name, least in {
            "max_batch_size": 1,
            "batch_timeout_micros": 0,
            "max_enqueued_batches": 1,
            "num_batch_threads": 1,
        }.items():
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
        names = [field.name for field in dataclasses.fields(cls) if field.name in _WRAPPED]
        values = {n: getattr(message, n).value for n in names if message.HasField(n)}
        return cls(
            **values,
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )

    def to_text(self) -> str:
        """The text proto that TensorFlow Serving's `--batching_parameters_file` names."""
        message = _message_class()()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _WRAPPED:
                getattr(message, field.name).value = value
            elif field.name == "allowed_batch_sizes":
                message.allowed_batch_sizes.extend(value)
            else:
                message.pad_variable_length_inputs = value
        return text_format.MessageToString(message)


@lru_cache(maxsize=1)
def _message_class() -> Any:
    """The message's class, made from a description in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tfpqn/batching_parameters.proto",
        package="tfpqn",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, (number, kind) in _WRAPPED.items():
        message.field.add(
            name=name,
            number=number,
            label=kinds.LABEL_OPTIONAL,
            type=kinds.TYPE_MESSAGE,
            type_name=f".google.protobuf.{kind}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=6, label=kinds.LABEL_REPEATED, type=kinds.TYPE_INT64
    )
    message.field.add(
        name="pad_variable_length_inputs",
        number=7,
        label=kinds.LABEL_OPTIONAL,
        type=kinds.TYPE_BOOL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfpqn.BatchingParameters"))
