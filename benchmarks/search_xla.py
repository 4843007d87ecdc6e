"""What XLA saves where a server has it enabled: the full search, compiled and not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from search_collections import Settings, make_collection
from search_engines import make_faiss_pq, open_session
from search_figures import time_engines

from tfpqn.export import Searcher, save_searcher


def measure_xla(num_items: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """Times of the collection "random" by batch size and engine; XLA must not be disabled."""
    collection = make_collection("random", num_items, settings)
    index = collection.make_index()
    with ExitStack() as stack:
        engines = {"faiss-pq": make_faiss_pq(collection, settings.top_k)}
        for name, xla in (("ours-exhaustive", False), ("ours-xla", True)):
            searcher = Searcher(collection.network, index, top_k=settings.top_k, xla=xla)
            path = save_searcher(searcher, folder / name / "1")
            engines[name] = open_session(stack, path)
        times = {
            str(batch_size): time_engines(engines, collection.queries, batch_size, settings.repeats)
            for batch_size in settings.queries
        }
    return {"items": num_items, "times": times}
