"""How many values a Parquet file says that it holds, for a look before any column is read.

It is read here since pyarrow ends the process where the footer of a column is forged: its
metadata objects let no exception of C++ through. The format is Thrift's compact protocol.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, 10)


def count_values(file: BinaryIO) -> int:
    """Number of values in all columns of an open Parquet file; any exception if it is torn."""
    file.seek(-8, os.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    file.seek(-8 - length, os.SEEK_END)
    footer = _read(io.BytesIO(file.read(length)), _STRUCT)
    # Row groups, of these the columns, of these the metadata.
    return sum(int(column[3][5]) for group in footer[4] for column in group[1])


def _read(data: io.BytesIO, kind: int) -> Any:
    """A value of one of the protocol's kinds; a struct becomes a dict by number of field."""
    if kind in _INTEGERS:
        value = _read_unsigned(data)
        return (value >> 1) ^ -(value & 1)
    if kind == _BINARY:
        return data.read(_read_unsigned(data))
    if kind in _LISTS:
        header = data.read(1)[0]
        size = header >> 4 if header < 0xF0 else _read_unsigned(data)
        return [_read(data, header & 15) for _ in range(size)]
    if kind == _STRUCT:
        fields, number = {}, 0
        while header := data.read(1)[0]:
            number = number + (header >> 4) if header >> 4 else _read(data, _INTEGERS[0])
            kind = header & 15
            # In a field the kind itself is the value of a boolean.
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else _read(data, kind)
        return fields
    return data.read({_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}[kind])[0]


def _read_unsigned(data: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = data.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number of more than 64 bits")
