"""The ids of candidates: how they come, and how they lie in a file."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import keras
import numpy as np

from tfpqn.retrieval.candidate_arrays import to_numpy

# What stands where there is no candidate.
NO_ID = -1
NO_STRING = b""


def read_ids(ids: Any, num_candidates: int) -> np.ndarray:
    """Ids `[num_candidates]`: int64, or UTF-8 bytes as objects.

    Raises:
        ValueError: They are no integers or strings, or of another number, or the backend cannot
            hold them.
    """
    if isinstance(ids, (list, tuple)) and any(isinstance(one, (str, bytes)) for one in ids):
        # NumPy would make strings of numbers, and cut null characters off.
        ids = np.array(ids, object)
    ids = to_numpy(ids)
    if ids.shape != (num_candidates,):
        raise ValueError(
            f"candidate_ids must have shape [{num_candidates}], one for each candidate. "
            f"Received: {ids.shape}"
        )
    if ids.dtype.kind in "iu":
        return require_held(ids, "candidate_ids").astype(np.int64)
    if all(isinstance(one, (str, bytes)) for one in ids.tolist()):
        return _encode(ids)
    kinds = sorted({type(one).__name__ for one in ids.tolist()})
    raise ValueError(
        "candidate_ids must all be integers or strings. Received: an array of dtype "
        f"{ids.dtype}, with values of {' and '.join(kinds)}"
    )


def are_strings(ids: np.ndarray) -> bool:
    return ids.dtype.kind == "O"


def kind_of_ids(ids: np.ndarray | None) -> str:
    """What ids are, for errors: positions, strings or integers."""
    if ids is None:
        return "positions"
    return "strings" if are_strings(ids) else "integers"


def id_dtype() -> str:
    """Dtype of integer ids: JAX has no int64, unless it is asked to."""
    return "int32" if keras.backend.backend() == "jax" else "int64"


def missing_id(ids: np.ndarray) -> np.ndarray:
    """What stands where there is no candidate, as an array `[1]` of the ids' dtype."""
    return np.array([NO_STRING if are_strings(ids) else NO_ID], ids.dtype)


def save_ids(store: MutableMapping[str, Any], ids: np.ndarray) -> None:
    """Write ids as arrays of numbers: strings as their bytes, one after another."""
    if are_strings(ids):
        store["id_bytes"] = np.frombuffer(b"".join(ids), np.uint8)
        store["id_lengths"] = np.array([len(one) for one in ids], np.int64)
    else:
        store["ids"] = ids


def load_ids(store: Mapping[str, Any]) -> np.ndarray | None:
    """The ids that `save_ids` wrote, if it did."""
    if "id_lengths" in store:
        joined = np.asarray(store["id_bytes"]).tobytes()
        ends = np.cumsum(np.asarray(store["id_lengths"]))
        starts = [0, *ends[:-1]]
        texts = [joined[start:end] for start, end in zip(starts, ends, strict=True)]
        return _encode(np.array(texts, object))
    return np.asarray(store["ids"]) if "ids" in store else None


def _encode(ids: np.ndarray) -> np.ndarray:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "String ids need TensorFlow as the backend. Expected integers, such as positions in a "
            f"list of the strings. Received: strings on {keras.backend.backend()}"
        )
    encoded = np.empty(len(ids), object)
    encoded[:] = [one.encode() if isinstance(one, str) else one for one in ids.tolist()]
    return encoded


def require_held(ids: np.ndarray, name: str) -> np.ndarray:
    """The integers, which the backend can hold.

    Raises:
        ValueError: It cannot.
    """
    limits = np.iinfo(id_dtype())
    if ids.size and (ids.max() > limits.max or ids.min() < limits.min):
        raise ValueError(
            f"{name} must fit {limits.dtype} on {keras.backend.backend()}. "
            f"Received: {ids.min()} .. {ids.max()}"
        )
    return ids
