"""What the writers of this room are given."""

from __future__ import annotations

from typing import Any

from tfpqn.index import CodeIndex
from tfpqn.models import ProductQuantizationNetwork

from ..model.searcher import Searcher


def require_types(network: Any, index: Any, searcher: Any = None) -> None:
    """Raises TypeError unless they are of their types, or the searcher is None."""
    wanted = [("network", network, ProductQuantizationNetwork), ("index", index, CodeIndex)]
    if searcher is not None:
        wanted.append(("searcher", searcher, Searcher))
    for name, given, kind in wanted:
        if not isinstance(given, kind):
            raise TypeError(f"{name} must be a {kind.__name__}. Received: {type(given)}")
