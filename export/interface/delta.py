"""What a collection has beside a base: the items since it was exported, and the ids to hide."""

from __future__ import annotations

from typing import Any, NamedTuple

# The signature by which a delta says which bases it goes with.
DESCRIBE_DELTA = "describe_delta"
# What the name of its model, and of its folder, ends with.
DELTA_SUFFIX = "-delta"
# Signatures of bases that leave ids out of a search, by the signatures that do not.
SIGNATURES_WITH_EXCLUSIONS = {
    "serving_default": "search_with_exclusions",
    "search": "search_with_exclusions",
    "search_by_embedding": "search_by_embedding_with_exclusions",
    "search_with_filters": "search_with_filters_and_exclusions",
}


class Delta(NamedTuple):
    """What makes a model the delta of a collection.

    Attributes:
        bases: Export ids of the bases that it goes with. Each of them, without the hidden ids and
            with the delta's items, is the same collection.
        hidden: Ids that a base holds and that are gone or changed.
        state: Digest of what the delta was made of; it tells whether another would be the same.
    """

    bases: tuple[str, ...]
    hidden: tuple[Any, ...]
    state: str = ""
