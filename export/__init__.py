"""Networks and collections as SavedModels that hold their own search."""

from .loaders import StatusError as StatusError
from .op_check import check_ops as check_ops
from .saved_model import SavedSearcher as SavedSearcher
from .saved_model import load_searcher as load_searcher
from .saved_model import save_searcher as save_searcher
from .searcher import Searcher as Searcher
from .searcher import SearchResult as SearchResult

__all__ = [
    "SavedSearcher",
    "SearchResult",
    "Searcher",
    "StatusError",
    "check_ops",
    "load_searcher",
    "save_searcher",
]
