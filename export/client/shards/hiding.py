"""Leaving out of a base's answers the items that are gone or changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...interface.bounds import MAX_K
from ...interface.delta import SIGNATURES_WITH_EXCLUSIONS
from ..inputs import missing_id, to_rows

# Inputs with a row for each query.
_QUERIES = ("items", "images", "frames", "embeddings")


def leave_out(
    name: str, values: Mapping[str, Any], hidden: Sequence[Any]
) -> tuple[str, dict[str, Any]]:
    """The signature, and what to give it, of a search that finds enough items but the hidden ones.

    Args:
        name: Signature of the search as it was asked for.
        values: Its inputs by name; or `items` in place of the packed input.
        hidden: The ids to leave out.
    """
    if name == "search_k":
        return name, {**values, "k": min(int(values["k"]) + len(hidden), MAX_K)}
    if name == "search_with_probes":
        return name, dict(values)  # No signature takes both: hidden items cost their places.
    queries = next(value for key, value in values.items() if key in _QUERIES)
    given = values.get("exclude_ids")
    if isinstance(given, np.ndarray) and given.ndim == 2:
        # What fills up every list takes the room of hidden ids.
        given = given[:, (given != missing_id(given.dtype)).any(axis=0)]
    lists = to_rows("exclude_ids", given, len(queries))
    excluded = [[*row, *hidden] for row in lists]
    return SIGNATURES_WITH_EXCLUSIONS.get(name, name), {**values, "exclude_ids": excluded}
