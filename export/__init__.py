"""Networks and collections as SavedModels that hold their own search.

What is named here is imported when it is first used: a client needs no TensorFlow.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from .bridges.faiss_reader import from_faiss as from_faiss
    from .bridges.faiss_reader import read_faiss_ids as read_faiss_ids
    from .bridges.faiss_writer import to_faiss as to_faiss
    from .bridges.litert_writer import save_litert as save_litert
    from .ingest.growing_model import GrowingModel as GrowingModel
    from .interface.batching_parameters import BatchingParameters as BatchingParameters
    from .interface.search_result import SearchResult as SearchResult
    from .loading.loaders import StatusError as StatusError
    from .loading.op_check import check_ops as check_ops
    from .model.saved_model import SavedSearcher as SavedSearcher
    from .model.saved_model import default_batching as default_batching
    from .model.saved_model import load_searcher as load_searcher
    from .model.saved_model import require_new_version as require_new_version
    from .model.saved_model import save_searcher as save_searcher
    from .model.searcher import Searcher as Searcher
    from .model.shards import save_shards as save_shards
    from .model.verify import VerifyReport as VerifyReport
    from .model.verify import verify_version as verify_version

_MODULE_OF = {
    "BatchingParameters": "interface.batching_parameters",
    "GrowingModel": "ingest.growing_model",
    "SavedSearcher": "model.saved_model",
    "SearchResult": "interface.search_result",
    "Searcher": "model.searcher",
    "StatusError": "loading.loaders",
    "VerifyReport": "model.verify",
    "check_ops": "loading.op_check",
    "default_batching": "model.saved_model",
    "from_faiss": "bridges.faiss_reader",
    "load_searcher": "model.saved_model",
    "read_faiss_ids": "bridges.faiss_reader",
    "require_new_version": "model.saved_model",
    "save_litert": "bridges.litert_writer",
    "save_searcher": "model.saved_model",
    "save_shards": "model.shards",
    "to_faiss": "bridges.faiss_writer",
    "verify_version": "model.verify",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> _Any:
    if name in _MODULE_OF:
        return getattr(_importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if name in ("client", "server"):
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
