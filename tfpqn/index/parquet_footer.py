"""How many values a Parquet file holds, by its footer, for a look before any column is read.

It is read here since pyarrow ends the process where the footer of a column is forged: its
metadata objects let no exception of C++ through. The format is Thrift's compact protocol, in which
a struct becomes a dict by number of field.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

_TAIL = struct.Struct("<I4s")


def count_values(file: BinaryIO) -> int:
    """Number of values in all columns of an open Parquet file, which is left at its beginning.

    Raises:
        ValueError: There is no footer; if it is torn, other exceptions.
    """
    file.seek(-_TAIL.size, os.SEEK_END)
    length, magic = _TAIL.unpack(file.read())
    if magic != b"PAR1":
        raise ValueError("a file without the footer of a Parquet file")
    file.seek(-_TAIL.size - length, os.SEEK_END)
    footer = _read_struct(io.BytesIO(file.read(length)))
    file.seek(0)
    return sum(int(column[3][5]) for group in footer[4] for column in group[1])


def _read_struct(data: io.BytesIO) -> dict[int, Any]:
    fields, number = {}, 0
    while header := _read_byte(data):
        step, kind = header >> 4, header & 15
        number = number + step if step else _read_signed(data)
        # In a field the kind itself is the value of a boolean.
        fields[number] = kind == 1 if kind in (1, 2) else _READERS[kind](data)
    return fields


def _read_list(data: io.BytesIO) -> list[Any]:
    header = _read_byte(data)
    size, read = header >> 4, _READERS[header & 15]
    return [read(data) for _ in range(_read_unsigned(data) if size == 15 else size)]


def _read_signed(data: io.BytesIO) -> int:
    value = _read_unsigned(data)
    return (value >> 1) ^ -(value & 1)


def _read_unsigned(data: io.BytesIO) -> int:
    value = shift = 0
    while (byte := _read_byte(data)) > 127:
        value |= (byte & 127) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    return value | byte << shift


def _read_byte(data: io.BytesIO) -> int:
    return _read_bytes(data, 1)[0]


def _read_bytes(data: io.BytesIO, size: int) -> bytes:
    read = data.read(size)
    if len(read) < size:
        raise EOFError("a footer that ends too early")
    return read


_READERS: dict[int, Callable[[io.BytesIO], Any]] = {
    **dict.fromkeys((1, 2, 3), _read_byte),
    **dict.fromkeys((4, 5, 6), _read_signed),
    7: lambda data: _read_bytes(data, 8),
    8: lambda data: _read_bytes(data, _read_unsigned(data)),
    **dict.fromkeys((9, 10), _read_list),
    12: _read_struct,
}
