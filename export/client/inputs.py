"""What callers give, checked and packed as the inputs of a signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfpqn.datasets.plain_images import make_plain
from tfpqn.items import items_of_inputs

from ..interface.bounds import MAX_EXCLUSIONS, MAX_K, MAX_TAGS_PER_QUERY
from ..interface.packing import pack_ids
from ..interface.signatures import Arrays, Signature, TensorInfo, numpy_dtype

# A server that merges requests wants lists of one width: few widths merge oftener than many.
_WIDTHS = (16, 64, 256, 1024)


def choose_signature(k: Any, exclude_ids: Any, allow_tags: Any, deny_tags: Any) -> str:
    """Name of the signature that takes these arguments of a search."""
    wanted = {
        "search_k": k is not None,
        "search_with_exclusions": exclude_ids is not None,
        "search_with_filters": allow_tags is not None or deny_tags is not None,
    }
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise ValueError(
            "A search takes k, or exclude_ids, or allow_tags and deny_tags, one of the three: no "
            f"signature serves them together. Received: arguments of {' and '.join(chosen)}"
        )
    return chosen[0] if chosen else "search"


def pack_search(
    signature: Signature,
    items: Sequence[Any],
    k: Any,
    exclude_ids: Any,
    allow_tags: Any,
    deny_tags: Any,
) -> Arrays:
    """The arguments of a search as the inputs of its signature."""
    inputs = pack_queries(items, signature)
    (num_rows,) = {len(array) for array in inputs.values()}
    infos = signature.inputs
    if "k" in infos:
        inputs["k"] = pack_k(k)
    if "exclude_ids" in infos:
        inputs["exclude_ids"] = pack_lists(
            "exclude_ids", exclude_ids, num_rows, infos["exclude_ids"], MAX_EXCLUSIONS
        )
    for name, tags in (("allow_tags", allow_tags), ("deny_tags", deny_tags)):
        if name in infos:
            inputs[name] = pack_tags(name, tags, num_rows, infos[name])
    return inputs


def pack_queries(items: Sequence[Any], signature: Signature) -> Arrays:
    """Images or clips, whichever the signature takes, as its input, made plain."""
    spec = items_of_inputs(signature.inputs)
    if not spec.has_pixels:
        return {spec.input_name: pack_embeddings(items, signature.inputs[spec.input_name])}
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


def pack_embeddings(embeddings: Any, info: TensorInfo) -> np.ndarray:
    """Embeddings `[batch, embedding_dim]` as float32."""
    with np.errstate(over="ignore"):
        array = np.asarray(embeddings, np.float32)
    _require_width("embeddings", array, info)
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist()
        raise ValueError(
            "embeddings: expected finite values. Received NaN or infinity; rows concerned: "
            f"{rows[:10]}"
        )
    return array


def pack_codes(codes: Any, info: TensorInfo) -> np.ndarray:
    """Codes `[batch, code_length]` as int32."""
    array = np.asarray(codes)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"codes: expected whole numbers. Received: {array.dtype}")
    _require_width("codes", array, info)
    if array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ValueError("codes: expected values that fit int32. Received: larger ones")
    return array.astype(np.int32)


def _require_width(name: str, array: np.ndarray, info: TensorInfo) -> None:
    width = info.shape[1] if info.shape is not None and len(info.shape) == 2 else None
    if array.ndim != 2 or (width is not None and array.shape[1] != width):
        raise ValueError(
            f"{name}: expected the shape [batch, {'width' if width is None else width}]. "
            f"Received: {list(array.shape)}"
        )


def pack_lists(name: str, lists: Any, num_rows: int, info: TensorInfo, most: int) -> np.ndarray:
    """Lists of ids or tags, filled up: `[num_rows, width]`.

    One list is for all items, a list of lists has one for each, and None is an empty one. A list
    may hold `most` values.
    """
    rows = [pack_ids(name, row, info.dtype) for row in _to_rows(name, lists, num_rows)]
    longest = max(map(len, rows), default=0)
    if longest > most:
        raise ValueError(f"{name}: expected at most {most} for each item. Received: {longest}")
    width = next(width for width in _WIDTHS if longest <= width)
    missing: Any = b"" if info.dtype == "string" else -1
    packed = np.full((num_rows, width), missing, numpy_dtype(info.dtype))
    for row, values in zip(packed, rows, strict=True):
        row[: len(values)] = values
    return packed


def _to_rows(name: str, lists: Any, num_rows: int) -> list[Any]:
    if isinstance(lists, (str, bytes)):
        raise TypeError(f"{name} must be a list. Received: one {type(lists).__name__}")
    values = [] if lists is None else list(lists)
    are_lists = [isinstance(v, Iterable) and not isinstance(v, (str, bytes)) for v in values]
    if not any(are_lists):
        return [values] * num_rows
    if not all(are_lists) or len(values) != num_rows:
        raise ValueError(
            f"{name} must be one list for all items, or a list for each of the {num_rows} items. "
            f"Received: {len(values)} entries, {sum(are_lists)} of them lists"
        )
    return values


def pack_tags(name: str, lists: Any, num_rows: int, info: TensorInfo) -> np.ndarray:
    """Tags such as "label=cat" for each item, see `pack_lists`."""
    packed = pack_lists(name, lists, num_rows, info, MAX_TAGS_PER_QUERY)
    wrong = [tag for tag in packed.flat if tag and b"=" not in tag]
    if wrong:
        raise ValueError(
            f"{name}: expected tags of the form COLUMN=VALUE. Received: {wrong[0].decode()!r}"
        )
    return packed


def pack_k(k: Any) -> np.ndarray:
    """How many items to return, as a scalar."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k must be a whole number. Received: {type(k).__name__}")
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k must be in 1 .. {MAX_K}. Received: k={k}")
    return np.array(k, np.int32)


def split_rows(inputs: Arrays, chunk_size: int, max_bytes: int) -> Iterator[Arrays]:
    """The inputs in parts of at most so many rows and bytes; scalars go with every part.

    A row that is larger than `max_bytes` makes a part of its own.
    """
    sizes = _row_sizes(inputs)
    start, num_bytes = 0, 0
    for row, size in enumerate(sizes):
        if row > start and (row - start == chunk_size or num_bytes + size > max_bytes):
            yield _take(inputs, slice(start, row))
            start, num_bytes = row, 0
        num_bytes += size
    if start < len(sizes):
        yield _take(inputs, slice(start, len(sizes)))


def _take(inputs: Arrays, rows: slice) -> Arrays:
    return {name: array[rows] if array.ndim else array for name, array in inputs.items()}


def _row_sizes(inputs: Arrays) -> list[int]:
    """Bytes of each row over all inputs that have rows."""
    sizes = [[_num_bytes(row) for row in array] for array in inputs.values() if array.ndim]
    return [sum(of_row) for of_row in zip(*sizes, strict=True)]


def _num_bytes(row: Any) -> int:
    if isinstance(row, bytes):
        return len(row)
    if isinstance(row, np.ndarray) and row.dtype == object:
        return sum(map(len, row.flat))
    return int(row.nbytes)
