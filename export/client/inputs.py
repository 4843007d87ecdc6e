"""What callers give, checked and packed as the inputs of a signature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfpqn.datasets.plain_images import make_plain
from tfpqn.items import items_of_inputs

from ..interface.bounds import MAX_EXCLUSIONS, MAX_TAGS_PER_QUERY
from ..interface.packing import pack_ids
from ..interface.signatures import (
    Arrays,
    Signature,
    TensorInfo,
    naming,
    numpy_dtype,
    require_shape,
    to_numbers,
)

# A server that merges requests wants lists of one width: few widths merge oftener than many.
_WIDTHS = (16, 64, 256, 1024)
_MOST_LISTED = {
    "exclude_ids": MAX_EXCLUSIONS,
    "allow_tags": MAX_TAGS_PER_QUERY,
    "deny_tags": MAX_TAGS_PER_QUERY,
}
_TAKEN_BY = {
    "k": "search_k",
    "exclude_ids": "search_with_exclusions",
    "allow_tags": "search_with_filters",
    "deny_tags": "search_with_filters",
}


def choose_signature(options: Mapping[str, Any]) -> str:
    """Name of the signature that takes these options of a search, None being none."""
    chosen = sorted({_TAKEN_BY[name] for name, value in options.items() if value is not None})
    if len(chosen) > 1:
        raise ValueError(
            "A search takes k, or exclude_ids, or allow_tags and deny_tags, one of the three: no "
            f"signature serves them together. Received: arguments of {' and '.join(chosen)}"
        )
    return chosen[0] if chosen else "search"


def pack_inputs(signature: Signature, values: Mapping[str, Any]) -> Arrays:
    """What a caller gives as the inputs of a signature: `items`, and all else by its name."""
    inputs = pack_queries(values["items"], signature) if "items" in values else {}
    if "embeddings" in values:
        info = signature.inputs["embeddings"]
        inputs["embeddings"] = _pack("embeddings", values["embeddings"], 0, info)
    num_rows = max(map(len, inputs.values()), default=0)
    for name in signature.inputs.keys() - inputs.keys():
        inputs[name] = _pack(name, values.get(name), num_rows, signature.inputs[name])
    return inputs


def _pack(name: str, value: Any, num_rows: int, info: TensorInfo) -> np.ndarray:
    if name in _MOST_LISTED:
        return pack_lists(name, value, num_rows, info)
    if name == "item_ids":
        return pack_ids(name, value, info.dtype)
    with naming(name):
        array = to_numbers(value, numpy_dtype(info.dtype))
        require_shape(array.shape, info)
        if not np.isfinite(array).all():
            raise ValueError("must hold finite values. Received: NaN or infinity")
        return array


def pack_queries(items: Sequence[Any], signature: Signature) -> Arrays:
    """Images, clips or vectors, whichever the signature takes, as its input; images made plain."""
    spec = items_of_inputs(signature.inputs)
    if not spec.has_pixels:
        name = spec.input_name
        return {name: _pack(name, items, 0, signature.inputs[name])}
    name, packed = spec.input_name, spec.pack(items)
    for position, data in np.ndenumerate(packed):
        # In a clip an empty string is no frame.
        if data or spec.encoded_rank == 1:
            packed[position] = _make_plain(data, name, position[0])
    if spec.encoded_rank == 2 and (empty := ~(packed != b"").any(axis=1)).any():
        raise ValueError(
            f"{name}: expected at least one frame in each clip. Received none in item "
            f"{empty.argmax()}"
        )
    return {name: packed}


def _make_plain(data: bytes, name: str, row: int) -> bytes:
    try:
        return make_plain(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error} in item {row}") from None


def pack_lists(name: str, lists: Any, num_rows: int, info: TensorInfo) -> np.ndarray:
    """Lists of ids or tags, one for all items or one each, filled up: `[num_rows, width]`."""
    most = _MOST_LISTED[name]
    rows = [pack_ids(name, row, info.dtype) for row in to_rows(name, lists, num_rows)]
    longest = max(map(len, rows), default=0)
    if longest > most:
        raise ValueError(f"{name}: expected at most {most} for each item. Received: {longest}")
    width = next(width for width in _WIDTHS if longest <= width)
    dtype = numpy_dtype(info.dtype)
    packed = np.full((num_rows, width), missing_id(dtype), dtype)
    for row, values in zip(packed, rows, strict=True):
        row[: len(values)] = values
    return packed


def missing_id(dtype: np.dtype) -> Any:
    """What fills lists up: the id or tag that no item has."""
    return b"" if dtype.hasobject else -1


def to_rows(name: str, lists: Any, num_rows: int) -> list[Any]:
    """A list for each item, of one list for all or of a list each."""
    lists = [] if lists is None else lists
    if isinstance(lists, (str, bytes)) or not isinstance(lists, Iterable):
        raise TypeError(f"{name} must be a list. Received: one {type(lists).__name__}")
    values = list(lists)
    are_lists = [isinstance(v, Iterable) and not isinstance(v, (str, bytes)) for v in values]
    if not any(are_lists):
        return [values] * num_rows
    if not all(are_lists) or len(values) != num_rows:
        raise ValueError(
            f"{name} must be one list for all items, or a list for each of the {num_rows} items. "
            f"Received: {len(values)} entries, {sum(are_lists)} of them lists"
        )
    return values


def split_rows(inputs: Arrays, chunk_size: int, max_bytes: int) -> Iterator[Arrays]:
    """The inputs in parts of at most so many rows and bytes; scalars go with every part.

    A row that is larger than `max_bytes` makes a part of its own.
    """
    sizes = [_row_sizes(array) for array in inputs.values() if array.ndim]
    ends = np.cumsum(np.sum(sizes, axis=0, dtype=np.int64))
    start = 0
    while start < len(ends):
        most = max_bytes + (ends[start - 1] if start else 0)
        num_fitting = int(np.searchsorted(ends, most, side="right"))
        end = max(start + 1, min(start + chunk_size, num_fitting))
        yield {name: array[start:end] if array.ndim else array for name, array in inputs.items()}
        start = end


def _row_sizes(array: np.ndarray) -> list[int]:
    """Bytes of each row."""
    if array.dtype != object:
        return [array[:1].nbytes] * len(array)
    rows = array.reshape(len(array), math.prod(array.shape[1:]))
    return [sum(map(len, row)) for row in rows]
